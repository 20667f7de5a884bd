//! A QR code of characters, for a terminal of 80 columns.

use crate::config::Qr;
use qrcode::{Color, EcLevel, QrCode};

/// The quiet zone around it in modules. ISO/IEC 18004 asks for 4; readers are content with 2, and
/// the difference decides whether a URL fits 80 columns in ASCII.
const QUIET: usize = 2;

/// Draws `text`, or nothing where it would be wider than `width` or is not wanted.
///
/// Light modules are drawn and dark ones left out, which is right on dark terminals; on light ones
/// the code is inverted, which today's readers take too. Colours would settle it, but OpenSSH's
/// client prints escape sequences in a prompt as text.
pub fn draw(text: &str, style: Qr, width: usize) -> Option<String> {
    let columns = match style {
        Qr::Unicode => 1,
        Qr::Ascii => 2,
        Qr::Off => return None,
    };
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let modules = Modules { size: code.width(), colors: code.to_colors() };
    if modules.side() * columns > width {
        return None;
    }
    Some(if style == Qr::Ascii { modules.ascii() } else { modules.half_blocks() })
}

struct Modules {
    size: usize,
    colors: Vec<Color>,
}

impl Modules {
    fn side(&self) -> usize {
        self.size + 2 * QUIET
    }

    /// Whether the module is light; counted with the quiet zone.
    fn light(&self, x: usize, y: usize) -> bool {
        let (Some(x), Some(y)) = (x.checked_sub(QUIET), y.checked_sub(QUIET)) else { return true };
        x >= self.size || self.colors.get(y * self.size + x) != Some(&Color::Dark)
    }

    fn ascii(&self) -> String {
        let row = |y| (0..self.side()).map(|x| if self.light(x, y) { "##" } else { "  " }).collect::<String>() + "\n";
        (0..self.side()).map(row).collect()
    }

    /// Two rows in one line.
    fn half_blocks(&self) -> String {
        let pair = |x, y| match (self.light(x, y), self.light(x, y + 1)) {
            (true, true) => '█',
            (true, false) => '▀',
            (false, true) => '▄',
            (false, false) => ' ',
        };
        let row = |y| (0..self.side()).map(|x| pair(x, y)).collect::<String>() + "\n";
        (0..self.side()).step_by(2).map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a drawing back into modules and compares them with the code's own.
    fn same(text: &str, style: Qr) {
        let picture = draw(text, style, 80).unwrap();
        let code = QrCode::with_error_correction_level(text, EcLevel::L).unwrap();
        let lines: Vec<Vec<char>> = picture.lines().map(|l| l.chars().collect()).collect();
        for y in 0..code.width() {
            for x in 0..code.width() {
                let (px, py) = (x + QUIET, y + QUIET);
                let light = match style {
                    Qr::Ascii => lines[py][2 * px] == '#' && lines[py][2 * px + 1] == '#',
                    _ if py % 2 == 0 => "█▀".contains(lines[py / 2][px]),
                    _ => "█▄".contains(lines[py / 2][px]),
                };
                assert_eq!(light, code[(x, y)] == Color::Light, "{x},{y}");
            }
        }
        assert!(lines.iter().all(|l| l.len() == lines[0].len() && l.len() <= 80));
    }

    #[test]
    fn drawn_as_it_is() {
        let url = "https://sso.example.org/realms/lab/device?user_code=WDJB-MJHT";
        same(url, Qr::Unicode);
        same(url, Qr::Ascii);
    }

    #[test]
    fn too_wide_is_not_drawn() {
        let url = format!("https://sso.example.org/{}", "x".repeat(80));
        assert!(draw(&url, Qr::Ascii, 80).is_none());
        assert!(draw(&url, Qr::Unicode, 80).is_some());
        assert!(draw(&"x".repeat(500), Qr::Unicode, 80).is_none());
        assert!(draw(&"x".repeat(5000), Qr::Unicode, 8000).is_none(), "more than a QR code holds");
        assert!(draw(&url, Qr::Off, 80).is_none());
    }
}
