//! Foreign text on a person's terminal: what comes from a provider or a network is shown only if
//! it can do nothing there.

/// Longest URL that is shown.
pub const MAX_URL: usize = 512;
/// Longest user code that is shown (RFC 8628 §6.1 recommends eight characters).
pub const MAX_CODE: usize = 40;
/// Longest box, service or source that is shown, so that its line fits 80 columns.
const MAX_WORD: usize = 64;

/// Whether `text` is an https URL of graphic ASCII alone: no escape sequences, no spaces, and no
/// letters that look like others.
pub fn is_url(text: &str) -> bool {
    text.len() <= MAX_URL
        && text.bytes().all(|b| b.is_ascii_graphic())
        && text
            .strip_prefix("https://")
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '['))
}

/// Whether `text` is printable ASCII of the length of a code.
pub fn is_code(text: &str) -> bool {
    (1..=MAX_CODE).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
        && text.trim() == text
}

/// The box, service or source in a form that can be shown: sources may be names that a stranger's
/// reverse DNS gave.
pub fn word(text: &str) -> String {
    ascii(text, MAX_WORD)
}

/// A message in a form that can be logged or printed.
pub fn message(text: &str) -> String {
    ascii(text, 200)
}

fn ascii(text: &str, max: usize) -> String {
    text.chars().take(max).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        assert!(is_url("https://sso.example.org/device?user_code=ABCD-EFGH"));
        assert!(is_url("https://[2001:db8::1]/device"));
        for bad in [
            "http://sso.example.org/device",
            "https://",
            "https:///device",
            "javascript:alert(1)",
            "https://sso.example.org/\u{1b}[2J",
            "https://sso.example.org/a b",
            "https://sso.example.org/\u{202e}x",
            "https://s\u{455}o.example.org/",
            "https://sso.example.org/\nCode: EVIL",
        ] {
            assert!(!is_url(bad), "{bad:?}");
        }
        assert!(!is_url(&format!("https://x/{}", "a".repeat(MAX_URL))));
    }

    #[test]
    fn codes() {
        for good in ["ABCD-EFGH", "123 456", "a"] {
            assert!(is_code(good), "{good:?}");
        }
        for bad in ["", " A", "A\u{1b}[31m", "A\nB", "A\rB", "\u{202e}A", &*"A".repeat(41)] {
            assert!(!is_code(bad), "{bad:?}");
        }
    }

    #[test]
    fn words_lose_their_teeth() {
        assert_eq!(word("evil\u{1b}]0;x\u{7}.example"), "evil?]0;x?.example");
        assert_eq!(word(&"x".repeat(100)).len(), MAX_WORD);
    }
}
