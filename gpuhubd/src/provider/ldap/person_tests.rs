//! Entries of people, hostile ones among them, and what becomes of them.

use super::*;

/// 2026-11-01 00:00:00 UTC, day 20758.
const NOW: i64 = 20_758 * SECONDS_A_DAY;

fn in_corp(entries: &[Entry], who: Who<'_>) -> Result<Option<Found>, Unavailable> {
    person(&Schema::configured(""), entries, who, "corp", NOW)
}

fn name(text: &str) -> UserName {
    UserName::new(text).unwrap()
}

fn alice_with(changes: &[(&str, &[&str])]) -> Entry {
    let mut attributes: Vec<(&str, &[&str])> = vec![
        ("uid", &["alice"]),
        ("uidnumber", &["20001"]),
        ("gidnumber", &["20100"]),
        ("cn", &["Alice A"]),
        ("homedirectory", &["/home/alice"]),
        ("loginshell", &["/bin/bash"]),
        ("entryuuid", &["3F2A8E90-0000-4000-8000-000000000001"]),
    ];
    for (key, values) in changes {
        attributes.retain(|(k, _)| k != key);
        attributes.push((key, values));
    }
    Entry::of("uid=alice,ou=people,dc=x", &attributes)
}

fn found(entry: Entry) -> Found {
    in_corp(&[entry], Who::Name(&name("alice"))).unwrap().unwrap()
}

fn standing_of(attribute: &str, value: &str) -> (Standing, bool) {
    let found = found(alice_with(&[(attribute, &[value])]));
    (found.person.standing, found.lock_may_be_over)
}

#[test]
fn a_person() {
    let found = found(alice_with(&[]));
    assert_eq!(found.dn, "uid=alice,ou=people,dc=x");
    let want = Person {
        provider: "corp".into(),
        name: name("alice"),
        key: PersonKey { issuer: "ldap:corp".into(), subject: "3f2a8e90-0000-4000-8000-000000000001".into() },
        full_name: "Alice A".into(),
        uid: Some(20001.into()),
        gid: Some(20100.into()),
        home: Some("/home/alice".into()),
        shell: Some("/bin/bash".into()),
        groups: vec![],
        also_in: Vec::new(),
        standing: Standing::Active,
    };
    assert_eq!(found.person, want);
}

#[test]
fn gecos_goes_before_cn_and_the_dn_stands_in_for_the_uuid() {
    let p = found(alice_with(&[("gecos", &["Alice,,,"]), ("entryuuid", &[])])).person;
    assert_eq!(p.full_name, "Alice,,,");
    assert_eq!(found(alice_with(&[("cn", &["Alice"]), ("gecos", &[""])])).person.full_name, "Alice", "as in nslcd");
    assert_eq!(p.key.subject, "uid=alice,ou=people,dc=x");
    let p = found(alice_with(&[("cn", &["Zed", "Alice"]), ("homedirectory", &[]), ("loginshell", &[])])).person;
    assert_eq!((p.full_name.as_str(), p.home, p.shell), ("Alice", None, None));
}

#[test]
fn the_key_of_389_directory_server_stays_when_an_entry_is_renamed_or_gets_an_entry_uuid() {
    let id: (&str, &[&str]) = ("nsuniqueid", &["0B8FB00D-e96911f1-97f3eb82-c549f2e2"]);
    let key = |entry| found(entry).person.key.subject;
    assert_eq!(key(alice_with(&[id, ("entryuuid", &[])])), "0b8fb00d-e96911f1-97f3eb82-c549f2e2");
    assert_eq!(key(alice_with(&[id])), "0b8fb00d-e96911f1-97f3eb82-c549f2e2");
    let ipa = |key: &[&str]| {
        let schema = Schema::configured("schema = \"ipa\"");
        let entry = alice_with(&[id, ("ipauniqueid", key)]);
        let found = person(&schema, &[entry], Who::Name(&name("alice")), "corp", NOW).unwrap().unwrap();
        found.person.key.subject
    };
    assert_eq!(ipa(&["3F2A8E90-cafe"]), "3f2a8e90-cafe");
    assert_eq!(ipa(&[]), "0b8fb00d-e96911f1-97f3eb82-c549f2e2");
}

#[test]
fn another_spelling_is_another_person() {
    let entry = || alice_with(&[("uid", &["Alice", "asmith"])]);
    assert!(in_corp(&[alice_with(&[("uid", &["al", "alice"])])], Who::Name(&name("alice"))).unwrap().is_some());
    assert!(in_corp(&[alice_with(&[("uid", &["al", "alice"])])], Who::Name(&name("al"))).unwrap().is_none());
    let of = |n: &str| in_corp(&[entry()], Who::Name(&name(n))).unwrap();
    assert_eq!(of("alice"), None);
    assert_eq!(of("ALICE"), None);
    assert_eq!(of("asmith"), None, "an alias is nobody");
    assert_eq!(of("Alice").unwrap().person.name, name("Alice"), "the first by spelling, where none is in the DN");
}

#[test]
fn by_uid_the_name_is_the_one_in_the_dn() {
    let by_uid = |e| in_corp(&[e], Who::Uid(20001, None)).unwrap().map(|f| f.person.name);
    assert_eq!(by_uid(alice_with(&[("uid", &["aa", "alice"])])), Some(name("alice")));
    assert_eq!(by_uid(alice_with(&[("uid", &["zed", "bob", "-x"])])), Some(name("bob")));
    assert_eq!(by_uid(alice_with(&[("uid", &["a:b", "1000", ""])])), None);
}

#[test]
fn several_entries_are_nobody() {
    let twice = [alice_with(&[]), alice_with(&[])];
    let e = in_corp(&twice, Who::Name(&name("alice"))).unwrap_err();
    assert!(e.0.starts_with("2 people of one name or uid: uid=alice"), "{}", e.0);
    assert!(in_corp(&twice, Who::Uid(20001, None)).is_err());
    // The other spelling does not stand in her way.
    let other = [alice_with(&[]), alice_with(&[("uid", &["Alice"])])];
    assert!(in_corp(&other, Who::Name(&name("alice"))).unwrap().is_some());
    assert_eq!(in_corp(&[], Who::Name(&name("alice"))), Ok(None));
}

#[test]
fn hostile_fields_are_passed_on_for_the_engine_to_refuse() {
    let p = found(alice_with(&[
        ("uidnumber", &["0"]),
        ("gidnumber", &["0"]),
        ("gecos", &["x\nroot::0:0:::"]),
        ("homedirectory", &[""]),
        ("loginshell", &["/bin/sh\0"]),
    ]))
    .person;
    assert_eq!((p.uid, p.gid), (Some(0.into()), Some(0.into())));
    assert_eq!(p.full_name, "x\nroot::0:0:::");
    assert_eq!(p.home.as_deref(), Some(""));
    assert_eq!(p.shell.as_deref(), Some("/bin/sh\0"));
}

#[test]
fn an_id_that_cannot_be_read_is_never_made_up() {
    for values in [&[][..], &["1", "2"], &["-1"], &["+5"], &[""], &["4294967296"], &["0x1"], &["1 "], &["٣"]] {
        for attribute in ["uidnumber", "gidnumber"] {
            let entry = alice_with(&[(attribute, values)]);
            let e = in_corp(&[entry], Who::Name(&name("alice"))).unwrap_err();
            assert!(e.0.contains(attribute), "{}", e.0);
        }
    }
}

#[test]
fn shadow_expire() {
    for (value, want) in [
        ("0", Standing::Expired),
        ("1", Standing::Expired),
        ("20757", Standing::Expired),
        ("20758", Standing::Expired),
        ("20759", Standing::Active),
        ("99999999999999999999", Standing::Active),
        ("-1", Standing::Active),
        ("", Standing::Expired),
        ("never", Standing::Expired),
    ] {
        assert_eq!(standing_of("shadowexpire", value).0, want, "{value}");
    }
}

#[test]
fn locks() {
    for (attribute, value, want) in [
        ("nsaccountlock", "true", (Standing::Locked, false)),
        ("nsaccountlock", "TRUE", (Standing::Locked, false)),
        ("nsaccountlock", "false", (Standing::Active, false)),
        ("accountunlocktime", "20261101000001Z", (Standing::Locked, true)),
        ("accountunlocktime", "20261101000000Z", (Standing::Active, false)),
        ("accountunlocktime", "19700101000000Z", (Standing::Locked, true)),
        ("accountunlocktime", "soon", (Standing::Locked, true)),
        ("pwdaccountlockedtime", "000001010000Z", (Standing::Locked, false)),
        ("pwdaccountlockedtime", "20261031235900Z", (Standing::Locked, true)),
        ("pwdaccountlockedtime", "20261031235900.123456Z", (Standing::Locked, true)),
        ("pwdaccountlockedtime", "20261101000100Z", (Standing::Locked, true)),
        ("pwdaccountlockedtime", "20261030000000Z", (Standing::Active, false)),
        ("pwdaccountlockedtime", "rubbish", (Standing::Locked, true)),
    ] {
        assert_eq!(standing_of(attribute, value), want, "{attribute} {value}");
    }
    for until in ["20261101000001Z", "19700101000000Z"] {
        let counted = |n| found(alice_with(&[("accountunlocktime", &[until]), ("passwordretrycount", &[n])]));
        assert_eq!(counted("3").person.standing, Standing::Locked, "{until}");
        assert_eq!(counted("0").person.standing, Standing::Active, "{until}: an administrator has reset it");
    }
}

#[test]
fn times() {
    assert_eq!(generalized_time("19700101000000Z"), Some(0));
    assert_eq!(generalized_time("20261101000000Z"), Some(NOW));
    assert_eq!(generalized_time("20261101000060Z"), Some(NOW + 59));
    for bad in ["", "Z", "2026110100Z", "20261301000000Z", "20260230000000Z", "20261101000000", "2026110100000éZ"] {
        assert_eq!(generalized_time(bad), None, "{bad}");
    }
}

#[test]
fn ids_come_from_sids_where_the_configuration_says_so() {
    let sid = |rid: u32| Sid::parse("S-1-5-21-1-2-3-0").unwrap().with_rid(rid);
    let alice = |changes: &[(&str, &[&str])], sids: &[&[u8]]| {
        let who = name("alice");
        let entry = alice_with(changes).with_sids(sids);
        person(&Schema::configured("ids = \"sid\""), &[entry], Who::Name(&who), "corp", NOW)
            .map(|found| found.unwrap().person)
    };
    let users: &[(&str, &[&str])] = &[("primarygroupid", &["513"]), ("entryuuid", &[])];
    let p = alice(users, &[&sid(1105).to_bytes()]).unwrap();
    assert_eq!((p.uid, p.gid), (Some(sid(1105).into()), Some(sid(513).into())), "and not uidNumber");
    assert_eq!(p.key.subject, "S-1-5-21-1-2-3-1105");
    // What cannot be read is never made up.
    assert!(alice(users, &[]).is_err());
    assert!(alice(users, &[&sid(1).to_bytes(), &sid(2).to_bytes()]).is_err());
    assert!(alice(users, &[b"S-1-5-21-1-2-3-1105"]).is_err());
    assert!(alice(&[], &[&sid(1105).to_bytes()]).is_err(), "no primaryGroupID");
}

#[test]
fn somebody_of_active_directory() {
    let schema = Schema::configured("schema = \"ad\"");
    let sid = Sid::parse("S-1-5-21-1-2-3-1105").unwrap();
    let of = |changes: &[(&str, &[&str])]| {
        let mut attributes: Vec<(&str, &[&str])> = vec![
            ("samaccountname", &["alice"]),
            ("displayname", &["Alice Archer"]),
            ("cn", &["Archer, Alice"]),
            ("homedirectory", &[r"\\files\alice"]),
            ("primarygroupid", &["513"]),
            ("useraccountcontrol", &["512"]),
            ("accountexpires", &["9223372036854775807"]),
        ];
        for (key, values) in changes {
            attributes.retain(|(k, _)| k != key);
            attributes.push((key, values));
        }
        let entry = Entry::of(r"CN=Archer\, Alice,CN=Users,DC=x", &attributes).with_sids(&[&sid.to_bytes()]);
        person(&schema, &[entry], Who::Name(&name("alice")), "corp", NOW).unwrap().unwrap().person
    };
    let alice = of(&[]);
    assert_eq!((alice.uid, alice.gid), (Some(sid.into()), Some(sid.with_rid(513).into())));
    assert_eq!((alice.full_name.as_str(), alice.home), ("Alice Archer", None), "a Windows share is no home");
    assert_eq!((alice.key.subject.as_str(), alice.standing), ("S-1-5-21-1-2-3-1105", Standing::Active));
    let standing = |key, value| of(&[(key, &[value])]).standing;
    assert_eq!(standing("useraccountcontrol", "514"), Standing::Locked);
    assert_eq!(standing("useraccountcontrol", "66050"), Standing::Locked, "among other flags");
    assert_eq!(standing("useraccountcontrol", "rubbish"), Standing::Locked);
    // 2026-11-01 00:00 UTC, and a moment later.
    for (at, want) in [
        ("0", Standing::Active),
        ("134379648000000000", Standing::Expired),
        ("134379648010000000", Standing::Active),
        ("-1", Standing::Expired),
        ("soon", Standing::Expired),
    ] {
        assert_eq!(standing("accountexpires", at), want, "{at}");
    }
}
