//! Errors as people are told them.

use std::error::Error;

/// An error and its causes on one line. A cause that the line says already is not said again.
pub fn told(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug, thiserror::Error)]
    enum Failed {
        #[error("reading: {0}; try again")]
        Says(#[source] io::Error),
        #[error("reading")]
        Hides(#[source] io::Error),
    }

    #[test]
    fn a_cause_is_told_once() {
        let cause = || io::Error::other("no room");
        assert_eq!(told(&Failed::Says(cause())), "reading: no room; try again");
        assert_eq!(told(&Failed::Hides(cause())), "reading: no room");
    }
}
