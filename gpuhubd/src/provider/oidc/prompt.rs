//! The one prompt of a device login.
//!
//! OpenSSH before 10.3 shows information only together with the next prompt, so everything is in
//! one. sshd puts `(user@host) ` before its first line, which is therefore empty. Text comes before
//! the picture: that is the order of a screen reader, and of whoever cannot scan.

use super::device::Grant;
use super::{qr, shown};
use crate::config::Qr;
use crate::provider::Origin;
use gpuhub_common::name::UserName;
use std::fmt::Write;
use std::time::Duration;

/// What is drawn never is wider. A URL may be: broken into lines it could not be copied.
pub const WIDTH: usize = 80;

/// The text. RFC 8628 §5.4: the box and the source are there to be compared, since a stranger can
/// start a login in her name and send her the code.
pub fn text(name: &UserName, origin: &Origin, grant: &Grant, style: Qr) -> String {
    let mut text = String::from("\n");
    line(&mut text, "Box:     ", &shown::word(&origin.box_name));
    line(&mut text, "Service: ", &shown::word(&origin.service));
    if let Some(source) = &origin.source {
        line(&mut text, "From:    ", &shown::word(source));
    }
    line(&mut text, "\nSign in as ", name.as_str());
    text.push_str("Open this page in a browser, on any device, and enter the code:\n");
    line(&mut text, "  ", &grant.uri);
    line(&mut text, "  Code: ", &grant.user_code);
    text.push('\n');
    if let Some(picture) = qr::draw(grant.uri_complete.as_ref().unwrap_or(&grant.uri), style, WIDTH) {
        text.push_str(&picture);
        // By now it may have scrolled away.
        line(&mut text, "\n  Code: ", &grant.user_code);
    }
    line(&mut text, "The code is good for ", &life(grant.life));
    text.push_str("Go on only if you yourself started this login just now: whoever sends you a code\n");
    text.push_str("wants to log in as you.\n");
    text.push_str("Press Enter when you have signed in: ");
    // It is kept until she answers.
    text.shrink_to_fit();
    text
}

fn line(text: &mut String, label: &str, value: &str) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "{label}{value}");
}

/// As people say it.
fn life(time: Duration) -> String {
    let plural = |n: u64, unit: &str| format!("{n} {unit}{}.", if n == 1 { "" } else { "s" });
    match time.as_secs() {
        seconds if seconds < 120 => plural(seconds, "second"),
        seconds => plural(seconds / 60, "minute"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    fn grant() -> Grant {
        Grant {
            device_code: String::from("very-secret").into(),
            user_code: "WDJB-MJHT".into(),
            uri: "https://sso.example.org/realms/lab/device".into(),
            uri_complete: Some("https://sso.example.org/realms/lab/device?user_code=WDJB-MJHT".into()),
            life: Duration::from_secs(600),
            interval: None,
            since: Instant::now(),
        }
    }

    fn origin() -> Origin {
        Origin { box_name: "gpu-17".into(), service: "sshd".into(), source: Some("192.0.2.7".into()) }
    }

    fn alice() -> UserName {
        UserName::new("alice").unwrap()
    }

    #[test]
    fn everything_in_its_order() {
        for style in [Qr::Unicode, Qr::Ascii, Qr::Off] {
            let text = text(&alice(), &origin(), &grant(), style);
            let mut from = 0;
            for part in [
                "\nBox:     gpu-17\n",
                "Service: sshd\n",
                "From:    192.0.2.7\n",
                "Sign in as alice\n",
                "https://sso.example.org/realms/lab/device\n",
                "Code: WDJB-MJHT\n",
                if style == Qr::Off { "" } else { "Code: WDJB-MJHT\n" },
                "10 minutes",
                "only if you yourself started this login",
                "Press Enter when you have signed in: ",
            ] {
                from += text[from..].find(part).unwrap_or_else(|| panic!("{part:?} is missing in {text}")) + part.len();
            }
            assert_eq!(from, text.len());
            assert!(!text.contains("very-secret"));
        }
    }

    #[test]
    fn fits_eighty_columns_and_is_plain() {
        let mut origin = origin();
        origin.box_name = "b".repeat(200);
        origin.source = Some(format!("evil\u{1b}[2J{}", "x".repeat(200)));
        let name = UserName::new(&"n".repeat(64)).unwrap();
        for style in [Qr::Unicode, Qr::Ascii, Qr::Off] {
            let text = text(&name, &origin, &grant(), style);
            assert!(text.lines().all(|l| l.chars().count() <= WIDTH), "{text}");
            assert!(text.chars().all(|c| c == '\n' || c == ' ' || c.is_ascii_graphic() || "█▀▄".contains(c)), "{text}");
        }
        assert!(text(&name, &origin, &grant(), Qr::Off).is_ascii());
        assert!(text(&name, &origin, &grant(), Qr::Ascii).is_ascii());
    }

    #[test]
    fn times_as_people_say_them() {
        for (seconds, said) in
            [(0, "0 seconds."), (1, "1 second."), (119, "119 seconds."), (120, "2 minutes."), (1800, "30 minutes.")]
        {
            assert_eq!(life(Duration::from_secs(seconds)), said);
        }
    }
}
