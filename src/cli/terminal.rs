//! How results look: names that are safe to show, figures for people, colours.

use super::args::{Color, Global};
use anstyle::{AnsiColor, Style};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use undelfs::recover::file::{State, Time};
use undelfs::{Error, Result};

/// The standard output, and how to write on it.
pub struct Output {
    /// Where results are written to.
    pub out: BufWriter<StdoutLock<'static>>,
    /// Whether a person is looking: names are escaped then.
    pub is_terminal: bool,
    color: bool,
}

impl Output {
    /// The standard output as `--color` wants it.
    pub fn new(global: &Global) -> Self {
        let stdout = io::stdout().lock();
        let is_terminal = stdout.is_terminal();
        let color = match global.color {
            Color::Always => true,
            Color::Never => false,
            // https://no-color.org: set, and not to nothing.
            Color::Auto => is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        Output { out: BufWriter::with_capacity(1 << 16, stdout), is_terminal, color }
    }

    /// A name from the disk as it may be written here: raw into a pipe, escaped on a terminal.
    pub fn name<'a>(&self, name: &'a [u8]) -> Cow<'a, [u8]> {
        if !self.is_terminal {
            return Cow::Borrowed(name);
        }
        match quote(name) {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        }
    }

    /// `text` in a style, or plain where colours are not wanted.
    pub fn paint(&self, style: Style, text: &str) -> String {
        if self.color { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    /// A heading.
    pub fn heading(&self, text: &str) -> String {
        self.paint(Style::new().bold(), text)
    }

    /// `text` in the colour of a state.
    pub fn state(&self, state: State, text: &str) -> String {
        let color = match state {
            State::Complete => AnsiColor::Green,
            State::Partial => AnsiColor::Yellow,
            State::Empty => AnsiColor::Red,
        };
        self.paint(color.on_default(), text)
    }

    /// Ends the output with what became of writing it.
    ///
    /// # Errors
    /// Where it could not be written. A reader that has seen enough (`| head`) is none.
    pub fn finish(mut self, written: io::Result<()>) -> Result<()> {
        match written.and_then(|()| self.out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Failed(format!("standard output: {error}"))),
            _ => Ok(()),
        }
    }
}

/// Characters that could make a terminal do, or a reader see, something else than the name: control characters, and those that
/// are invisible or reorder the text around them.
fn is_treacherous(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A name as it can be shown, and pasted into a shell: as it is where nothing stands against it, else as `$'…'`.
pub fn quote(name: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(name)
        && !text.contains(is_treacherous)
        && !text.starts_with("$'")
    {
        return Cow::Borrowed(text);
    }
    let mut quoted = String::from("$'");
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' | '\'' => quoted.extend(['\\', c]),
                '\n' => quoted.push_str("\\n"),
                '\t' => quoted.push_str("\\t"),
                '\r' => quoted.push_str("\\r"),
                _ if is_treacherous(c) => hex(&mut quoted, c.encode_utf8(&mut [0; 4]).as_bytes()),
                _ => quoted.push(c),
            }
        }
        hex(&mut quoted, chunk.invalid());
    }
    quoted.push('\'');
    Cow::Owned(quoted)
}

fn hex(quoted: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(quoted, "\\x{byte:02x}");
    }
}

/// A message as one harmless line, whatever it quotes.
pub fn line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_treacherous) {
        return Cow::Borrowed(text);
    }
    let mut line = String::new();
    for c in text.chars() {
        if is_treacherous(c) { line.extend(c.escape_default()) } else { line.push(c) }
    }
    Cow::Owned(line)
}

/// A size in at most nine characters: `512 B`, `4.0 KiB`, `128 MiB`.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        // What would be rounded to 1024 is written as 1.0 of the next unit.
        if value < 1023.5 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if unit != "B" && value < 9.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// How much of a file is there, rounded down: `100%` means all of it.
pub fn percent(file: &undelfs::recover::file::LostFile) -> String {
    match file.state() {
        State::Complete => "100%".into(),
        State::Empty => "0%".into(),
        State::Partial => match u128::from(file.recovered()) * 100 / u128::from(file.size.max(1)) {
            0 => "<1%".into(),
            percent => format!("{}%", percent.min(99)),
        },
    }
}

/// A time where the user is, to the second.
pub fn local(time: Time) -> String {
    let zone = jiff::tz::TimeZone::system();
    time.timestamp().to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A number with the word for what it counts.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_where_they_could_do_harm() {
        for (name, shown) in [
            (&b"/tb/messages.MYD"[..], "/tb/messages.MYD"),
            ("/Fotos/Käse und Brot.jpg".as_bytes(), "/Fotos/Käse und Brot.jpg"),
            (b"it's", "it's"),
            (b"a\nb", "$'a\\nb'"),
            (b"\x1b[31mred\x07", "$'\\x1b[31mred\\x07'"),
            (b"caf\xe9", "$'caf\\xe9'"),
            (b"it's \xff", "$'it\\'s \\xff'"),
            (b"back\\slash\t", "$'back\\\\slash\\t'"),
            (b"$'x'", "$'$\\'x\\''"),
            ("gpj.\u{202e}exe".as_bytes(), "$'gpj.\\xe2\\x80\\xaeexe'"),
            ("\u{9b}2J".as_bytes(), "$'\\xc2\\x9b2J'"),
        ] {
            assert_eq!(quote(name), shown);
        }
    }

    #[test]
    fn messages_stay_on_one_line() {
        assert_eq!(line("plain"), "plain");
        assert_eq!(line("a\nb\u{1b}"), "a\\nb\\u{1b}");
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (10_240, "10 KiB"),
            (1_048_575, "1.0 MiB"),
            (134_217_728, "128 MiB"),
            (16 << 40, "16 TiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }
}
