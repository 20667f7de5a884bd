//! What becomes of passwords that were right: by the directory's policy, and by shadow's.

use super::*;
use gpuhubd::model::Notice;

async fn notice(p: &LdapProvider, name: &str, password: &str) -> Result<Option<Notice>, Reason> {
    let person = find(p, name).await.unwrap();
    p.verify_password(&person, &secret(password)).await.map(|a| a.notice()).map_err(|d| d.reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn warnings_and_grace_logins() {
    let s = Slapd::start();
    let p = ldaps(&s);
    assert_eq!(notice(&p, "alice", "pw-alice").await, Ok(None));
    let coming = notice(&p, "warnedbypolicy", "pw-warnedbypolicy").await;
    assert!(matches!(coming, Ok(Some(Notice::ExpiresIn(86_400..=2_000_000_000)))), "{coming:?}");
    let mut left = Vec::new();
    while let Ok(Some(Notice::GraceLogins(n))) = notice(&p, "graced", "pw-graced").await {
        left.push(n);
    }
    assert!(left.len() == 3 && left.is_sorted_by(|a, b| a > b), "three, each one less: {left:?}");
    assert_eq!(notice(&p, "graced", "pw-graced").await, Err(Reason::PasswordUnchangeable));
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_age_as_shadow_says() {
    let s = Slapd::start();
    let p = ldaps(&s);
    for (name, why) in [
        ("grown", Reason::PasswordExpired),
        ("firsttime", Reason::MustChangePassword),
        ("tooold", Reason::AccountExpired),
    ] {
        assert_eq!(notice(&p, name, &format!("pw-{name}")).await, Err(why), "{name}");
        assert_eq!(notice(&p, name, "wrong").await, Err(Reason::WrongPassword), "{name}: a stranger learns nothing");
    }
    let warned = notice(&p, "warned", "pw-warned").await;
    assert!(matches!(warned, Ok(Some(Notice::ExpiresIn(n))) if n > 86_400), "{warned:?}");

    // Changing it sets the clock anew.
    let grown = find(&p, "grown").await.unwrap();
    assert_eq!(p.change_password(&grown, &secret("pw-grown"), &secret("quite-new")).await, Ok(()));
    assert_eq!(notice(&p, "grown", "quite-new").await, Ok(None));
    assert_eq!(notice(&p, "grown", "pw-grown").await, Err(Reason::WrongPassword));

    let lax = at(&s, &format!("ldaps://127.0.0.1:{}", s.ldaps), &format!("{}\nshadow = false", with_ca(&s)));
    assert_eq!(notice(&lax, "tooold", "pw-tooold").await, Ok(None));
    let expired = find(&lax, "expired").await.unwrap();
    assert_eq!(expired.standing, Standing::Expired, "an account's own end is another thing");
}
