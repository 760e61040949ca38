//! What the default corpus is made of: well-translated packages of the distribution, by name.
//!
//! Fetching and unpacking them is another's task; here their files become pairs.

use crate::{
    corpus::Pair,
    gettext::{self, CatalogueError, LeftOut},
};
use std::collections::BTreeSet;

/// Packages whose catalogues the default corpus is made of.
///
/// Chosen for many messages, whole sentences among them, and careful translations into many
/// languages: a version control system, a picture editor, accounts, drawings, mail, a compiler's
/// diagnostics, photographs, a media player.
pub const PACKAGES: [&str; 8] = [
    "git",
    "gimp-data",
    "gnucash-common",
    "inkscape",
    "evolution-common",
    "gcc-14-locales",
    "darktable",
    "vlc-l10n",
];

/// A catalogue inside a package could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{path} of the package {package}: {error}")]
pub struct BadCatalogue {
    /// The package.
    pub package: String,
    /// The path in it.
    pub path: String,
    /// What is wrong.
    pub error: CatalogueError,
}

/// The language of a catalogue by its path in a package, `de` or `pt_BR` or `sr@latin`; none for
/// any other file.
///
/// Catalogues lie at `usr/share/locale/LANGUAGE/LC_MESSAGES/NAME.mo`; some distributions have
/// further folders beside `locale`, as `locale-langpack`.
pub fn language_of(path: &str) -> Option<&str> {
    let path = path.trim_start_matches("./").trim_start_matches('/');
    let (folder, rest) = path.strip_prefix("usr/share/locale")?.split_once('/')?;
    let parts: Vec<&str> = rest.split('/').collect();
    match parts[..] {
        [language, "LC_MESSAGES", name]
            if name.ends_with(".mo")
                && !language.is_empty()
                && (folder.is_empty() || folder.starts_with('-')) =>
        {
            Some(language)
        }
        _ => None,
    }
}

/// Pairs collected from catalogues, file by file.
#[derive(Debug, Default)]
pub struct Collected {
    /// English and the language asked for.
    pub pairs: Vec<Pair>,
    /// How many catalogues they came from.
    pub catalogues: usize,
    /// What was left out.
    pub left_out: LeftOut,
    /// Catalogues passed over because their charset is not converted (of the default packages in
    /// all languages: one, Greek in ISO-8859-7). To be told to the user.
    pub unread: Vec<BadCatalogue>,
    /// Every language that was seen, to tell a user who asked for another.
    pub languages: BTreeSet<String>,
}

impl Collected {
    /// Takes one file of a package; files other than catalogues of `language` are passed over.
    ///
    /// A damaged catalogue is an error: a corpus that silently lacks a part would not be the one
    /// that others prepare from the same packages.
    pub fn add(
        &mut self,
        package: &str,
        path: &str,
        bytes: &[u8],
        language: &str,
    ) -> Result<(), BadCatalogue> {
        let Some(found) = language_of(path) else { return Ok(()) };
        if !self.languages.contains(found) {
            self.languages.insert(found.to_owned());
        }
        if found != language {
            return Ok(());
        }
        let bad = |error| BadCatalogue { package: package.into(), path: path.into(), error };
        let catalogue = match gettext::parse(bytes) {
            Ok(catalogue) => catalogue,
            Err(error @ CatalogueError::Charset(_)) => {
                self.unread.push(bad(error));
                return Ok(());
            }
            Err(error) => return Err(bad(error)),
        };
        let extracted = gettext::pairs(&catalogue);
        self.catalogues += 1;
        self.left_out.add(&extracted.left_out);
        self.pairs.extend(extracted.pairs);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_catalogues_have_a_language() {
        for (path, language) in [
            ("usr/share/locale/de/LC_MESSAGES/git.mo", Some("de")),
            ("./usr/share/locale/sr@latin/LC_MESSAGES/vlc.mo", Some("sr@latin")),
            ("/usr/share/locale-langpack/pt_BR/LC_MESSAGES/x.mo", Some("pt_BR")),
            ("usr/share/locale/de/LC_MESSAGES/git.po", None),
            ("usr/share/locale/de/LC_TIME/git.mo", None),
            ("usr/share/locale//LC_MESSAGES/git.mo", None),
            ("usr/share/localefoo/de/LC_MESSAGES/git.mo", None),
            ("usr/share/doc/git/README", None),
        ] {
            assert_eq!(language_of(path), language, "{path}");
        }
    }

    #[test]
    fn catalogues_of_the_language_asked_for_give_their_pairs() {
        let bytes = gettext::test_file(
            &[
                (b"", b"Content-Type: text/plain; charset=UTF-8\n"),
                (b"Open", b"Abrir"),
                (b"%s", b"%s"),
            ],
            u32::to_le_bytes,
        );
        let mut collected = Collected::default();
        for package in ["git", "inkscape"] {
            let path = format!("./usr/share/locale/es/LC_MESSAGES/{package}.mo");
            collected.add(package, &path, &bytes, "es").unwrap();
        }
        let open = Pair { source: "Open".into(), target: "Abrir".into() };
        assert_eq!(collected.pairs, [open.clone(), open]);
        assert_eq!((collected.catalogues, collected.left_out.wordless), (2, 2));
    }

    #[test]
    fn a_catalogue_in_a_charset_that_is_not_converted_is_passed_over_and_named() {
        let bytes = gettext::test_file(
            &[(b"", b"Content-Type: text/plain; charset=iso-8859-7\n"), (b"Open", b"\xc1")],
            u32::to_le_bytes,
        );
        let mut collected = Collected::default();
        collected.add("gcc", "usr/share/locale/el/LC_MESSAGES/gcc.mo", &bytes, "el").unwrap();
        assert!(collected.pairs.is_empty());
        let told = collected.unread[0].to_string();
        assert!(told.contains("iso-8859-7") && told.contains("gcc.mo"), "{told}");
    }

    #[test]
    fn other_languages_are_noted_and_a_bad_catalogue_is_told_by_its_path() {
        let mut collected = Collected::default();
        collected.add("git", "usr/share/locale/fr/LC_MESSAGES/git.mo", b"junk", "de").unwrap();
        collected.add("git", "usr/share/doc/git/README", b"junk", "de").unwrap();
        assert_eq!(collected.languages.iter().collect::<Vec<_>>(), ["fr"]);
        let path = "usr/share/locale/de/LC_MESSAGES/git.mo";
        let error = collected.add("git", path, b"junk", "de").unwrap_err().to_string();
        assert!(error.contains(path) && error.contains("git"), "{error}");
        assert_eq!(collected.catalogues, 0);
    }
}
