//! The largest group and the most groups, as glibc asks for them: with a buffer that grows while it
//! is told that it is too small.

use super::*;

const MEMBERS: usize = 100_000;
const GROUPS: u32 = 10_000;
const FIRST_GID: u32 = 1_000_000;

fn member(n: usize) -> String {
    format!("member{n:06}")
}

/// Alice is in ten thousand groups, and everybody is in one group.
fn large() -> Content {
    let everybody = Group { name: "everybody".into(), gid: 20200, members: (0..MEMBERS).map(member).collect() };
    let mut content = content();
    content.groups.push(everybody);
    content.users[0].gids = (FIRST_GID..FIRST_GID + GROUPS).collect();
    content
}

/// What `call` gives once its buffer, doubled as often as it says ERANGE, is large enough, and that size.
fn grown<T>(call: impl Fn(usize) -> End<T>) -> (usize, T) {
    let mut len = 1024;
    loop {
        match call(len) {
            Ok(found) => return (len, found),
            Err(end) => assert_eq!(end, TOO_SMALL, "{len}"),
        }
        len *= 2;
        assert!(len <= 1 << 26, "and still too small");
    }
}

fn is_everybody(group: &Group) -> bool {
    (group.name.as_str(), group.gid, group.members.len()) == ("everybody", 20200, MEMBERS)
        && group.members.iter().enumerate().all(|(n, name)| *name == member(n))
}

#[test]
fn a_group_of_a_hundred_thousand() {
    let place = Place::new("large", NOBODY);
    let _published = place.publish(&large());
    let text = "everybody * ".len() + MEMBERS * (member(0).len() + 1);
    let (len, group) = grown(|len| getgrnam_in(len, "everybody"));
    assert!(is_everybody(&group) && len >= text + (MEMBERS + 1) * 8 && len / 2 < text + (MEMBERS + 2) * 8, "{len}");
    let (same, group) = grown(|len| getgrgid_in(len, 20200));
    assert!(is_everybody(&group) && same == len);
    // A walk comes to it, stays there while the buffer grows, and goes on behind it.
    assert_eq!(_nss_gpuhub_setgrent(0), SUCCESS);
    assert_eq!(getgrent().map(|g| g.name), Ok("empty".into()));
    let (same, group) = grown(getgrent_in);
    assert!(is_everybody(&group) && same == len);
    assert_eq!(getgrent().map(|g| g.name), Ok("gpu users".into()));
    assert_eq!(_nss_gpuhub_endgrent(), SUCCESS);
}

#[test]
fn a_group_of_a_hundred_thousand_from_the_broker() {
    let place = Place::new("large-socket", NOBODY);
    let members: Vec<String> = (0..MEMBERS).map(|n| format!("{:?}", member(n))).collect();
    let members = members.join(",");
    let reply = format!(r#"{{"parameters":{{"group":{{"name":"everybody","gid":20200,"members":[{members}]}}}}}}"#);
    let _asked = place.broker(move |_| Some(reply.clone()));
    // Some tries: a machine that is busy with other tests may take longer than a lookup may.
    let (_, group) = grown(|len| {
        (0..20)
            .map(|_| getgrnam_in(len, "everybody"))
            .find(|end| {
                *end != Err(UNAVAILABLE) || {
                    std::thread::sleep(Duration::from_millis(1010));
                    false
                }
            })
            .unwrap()
    });
    assert!(is_everybody(&group));
}

#[test]
fn a_user_in_ten_thousand_groups() {
    let place = Place::new("many-groups", NOBODY);
    let _published = place.publish(&large());
    let all: Vec<u32> = [20001].into_iter().chain(FIRST_GID..FIRST_GID + GROUPS).collect();
    for (size, limit) in [(1, -1), (1, 0), (64, -1), (64, 65536), (20_000, -1), (1, 10_001)] {
        assert_eq!(initgroups("alice", 20001, size, limit).as_ref(), Ok(&all), "{size} {limit}");
    }
    for limit in [1, 2, 100, 10_000] {
        assert_eq!(initgroups("alice", 20001, 1, limit).as_deref(), Ok(&all[..limit as usize]), "{limit}");
    }
}

#[test]
fn the_longest_fields() {
    let place = Place::new("long", NOBODY);
    let mut content = content();
    let alice = &mut content.users[0].passwd;
    alice.name = "a".repeat(64);
    alice.gecos = "g".repeat(4096);
    alice.home = format!("/{}", "h".repeat(4095));
    alice.shell = format!("/{}", "s".repeat(4095));
    let alice = alice.clone();
    let _published = place.publish(&content);
    let (len, found) = grown(|len| getpwnam_in(len, &alice.name));
    assert_eq!((len, found), (16384, alice));
}
