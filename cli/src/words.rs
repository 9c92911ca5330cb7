//! Figures and paths as a person reads them.

use std::path::Path;

/// `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `2h 05m`, `3m 07s` or `12s`.
pub(crate) fn time(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m {seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h {minutes:02}m"),
    }
}

/// A path as it is seen from the current folder, without ways back and forth.
pub(crate) fn path(path: &Path) -> String {
    let clean = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let here = std::env::current_dir().and_then(|folder| folder.canonicalize()).ok();
    let below = here.and_then(|here| clean.strip_prefix(here).ok().map(Path::to_owned));
    match below {
        Some(below) if !below.as_os_str().is_empty() => below.display().to_string(),
        _ => clean.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_grouped_and_times_rounded() {
        assert_eq!([0, 999, 1000, 1234567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.4, 59.6, 187.0, 7500.0].map(time), ["0s", "1m 00s", "3m 07s", "2h 05m"]);
        assert_eq!(time(f64::NAN), "?");
    }

    #[test]
    fn a_path_is_seen_from_here() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(path(&here.join("src/../src/words.rs")), "src/words.rs");
        assert_eq!(path(Path::new("/nothing/../there")), "/nothing/../there");
    }
}
