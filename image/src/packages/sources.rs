//! From the host's package sources to ours: the same mirrors and keys, another suite. Pure.
//!
//! Both forms of `sources.list(5)` are read: one-line (`deb [options] uri suite components`) and
//! deb822 stanzas. Of the host's entries those count that are Debian's own archive: their URI
//! ends in a segment that begins with `debian`, their suite is the host's release or one of its
//! update and security suites, and `main` is among their components. Options that weaken checks
//! (`trusted`, `allow-insecure`) are never carried over.

use std::fmt::Write;

/// The keyring that Debian's package of the same name installs.
pub const ARCHIVE_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One archive and suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The archive's address.
    pub uri: String,
    /// The suite.
    pub suite: String,
    /// The components.
    pub components: Vec<String>,
    /// What may sign: a keyring's path or an armoured key, as it stood. Empty: apt's own keys.
    pub signed_by: String,
}

/// Reads one file of package sources. What is disabled or malformed is left out, as apt itself
/// reports on it whenever the host's sources are used.
pub fn parse(text: &str, deb822: bool) -> Vec<Source> {
    if deb822 { parse_deb822(text) } else { text.lines().flat_map(parse_line).collect() }
}

fn parse_line(line: &str) -> Vec<Source> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let Some(rest) = line.strip_prefix("deb").filter(|r| r.starts_with([' ', '\t', '['])) else {
        return Vec::new();
    };
    let rest = rest.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some(parts) => parts,
            None => return Vec::new(),
        },
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(String::from);
    let (Some(uri), Some(suite)) = (words.next(), words.next()) else { return Vec::new() };
    let signed_by = options
        .split_whitespace()
        .filter_map(|option| option.split_once('='))
        .find(|(name, _)| name.eq_ignore_ascii_case("signed-by"))
        .map(|(_, value)| {
            value.split(',').filter(|key| !key.is_empty()).collect::<Vec<_>>().join(" ")
        })
        .unwrap_or_default();
    vec![Source { uri, suite, components: words.collect(), signed_by }]
}

fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            sources.extend(stanza(&fields));
            fields.clear();
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line.trim_end());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_ascii_lowercase(), value.trim().to_string()));
        }
    }
    sources
}

fn stanza(fields: &[(String, String)]) -> Vec<Source> {
    let field = |name: &str| {
        fields.iter().rev().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
    };
    let words =
        |name: &str| -> Vec<String> { field(name).split_whitespace().map(String::from).collect() };
    let off = ["no", "false", "0", "off"].contains(&field("enabled").to_ascii_lowercase().as_str());
    if off || !words("types").iter().any(|kind| kind == "deb") {
        return Vec::new();
    }
    let mut sources = Vec::new();
    for uri in words("uris") {
        for suite in words("suites") {
            sources.push(Source {
                uri: uri.clone(),
                suite,
                components: words("components"),
                signed_by: field("signed-by").to_string(),
            });
        }
    }
    sources
}

/// The host's archives with `suite` in place of the host's own release `host_codename`.
///
/// Suites map by their suffix: `bookworm-security` becomes `trixie-security`; backports and
/// proposed updates are left out, and a `suite` that is one of those has no security suite of its
/// own. Twins are dropped; the order is the host's.
pub fn for_suite(
    host: &[Source],
    host_codename: &str,
    suite: &str,
    components: &[String],
) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    for source in host {
        let last = source.uri.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let split = source.suite.find(['-', '/']).unwrap_or(source.suite.len());
        let (base, suffix) = source.suite.split_at(split);
        let ours = base == host_codename || ["stable", "oldstable", "testing"].contains(&base);
        if !last.starts_with("debian")
            || source.uri.starts_with("cdrom:")
            || !ours
            || !source.components.iter().any(|component| component == "main")
        {
            continue;
        }
        let suffix = match suffix {
            "" => "",
            _ if suite.contains('-') => continue,
            "-updates" => "-updates",
            "-security" | "/updates" => "-security",
            _ => continue,
        };
        let mapped = Source {
            uri: source.uri.clone(),
            suite: format!("{suite}{suffix}"),
            components: components.to_vec(),
            signed_by: source.signed_by.clone(),
        };
        if !sources.iter().any(|known| known.uri == mapped.uri && known.suite == mapped.suite) {
            sources.push(mapped);
        }
    }
    sources
}

/// Sources for mirrors that the user named. One whose last segment says `security` serves the
/// security suite, any other the suite and its updates.
pub fn for_mirrors(mirrors: &[String], suite: &str, components: &[String]) -> Vec<Source> {
    let mut sources = Vec::new();
    for mirror in mirrors {
        let last = mirror.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let suffixes: &[&str] = match (last.contains("security"), suite.contains('-')) {
            (true, true) => &[],
            (true, false) => &["-security"],
            (false, true) => &[""],
            (false, false) => &["", "-updates"],
        };
        for suffix in suffixes {
            sources.push(Source {
                uri: mirror.clone(),
                suite: format!("{suite}{suffix}"),
                components: components.to_vec(),
                signed_by: ARCHIVE_KEYRING.into(),
            });
        }
    }
    sources
}

/// Whether an address can stand in a sources file.
pub fn is_mirror(address: &str) -> bool {
    ["http://", "https://", "file:/", "mirror+"].iter().any(|scheme| address.starts_with(scheme))
        && !address.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"')
}

/// The sources as deb822 text.
pub fn write(sources: &[Source]) -> String {
    let mut text = String::new();
    for Source { uri, suite, components, signed_by } in sources {
        // Packages alone: no translations, no AppStream data, whatever the host's apt is set to.
        let _ = write!(
            text,
            "Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: {}\nTargets: Packages\nLanguages: none\n",
            components.join(" ")
        );
        if !signed_by.is_empty() {
            let _ = writeln!(text, "Signed-By: {signed_by}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn components() -> Vec<String> {
        vec!["main".into(), "non-free-firmware".into()]
    }

    const DEB822: &str = "\
# a comment
Types: deb deb-src
URIs: http://archive.example/debian
Suites: bookworm bookworm-updates bookworm-backports
# in between
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://archive.example/debian-security/
Suites: bookworm-security
Components: main

Types: deb
Enabled: no
URIs: http://off.test/debian
Suites: bookworm
Components: main

Types: deb
URIs: https://vendor.test/linux
Suites: bookworm
Components: main
";

    #[test]
    fn deb822_sources_map_to_the_newer_suite() {
        let sources = for_suite(&parse(DEB822, true), "bookworm", "trixie", &components());
        let suites: Vec<_> = sources
            .iter()
            .map(|s| (s.uri.as_str(), s.suite.as_str(), s.signed_by.as_str()))
            .collect();
        let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
        assert_eq!(
            suites,
            [
                ("http://archive.example/debian", "trixie", keyring),
                ("http://archive.example/debian", "trixie-updates", keyring),
                ("http://archive.example/debian-security/", "trixie-security", ""),
            ]
        );
    }

    #[test]
    fn backports_are_one_suite_and_no_more() {
        let suite = "trixie-backports";
        let sources = for_suite(&parse(DEB822, true), "bookworm", suite, &components());
        let mirrors = ["http://a.test/debian".to_string(), "http://a.test/security".into()];
        for sources in [sources, for_mirrors(&mirrors, suite, &components())] {
            assert_eq!(sources.iter().map(|s| s.suite.as_str()).collect::<Vec<_>>(), [suite]);
        }
    }

    #[test]
    fn one_line_sources_map_to_the_newer_suite() {
        let text = "\
deb http://archive.example/debian bookworm main contrib # the archive
deb-src http://archive.example/debian bookworm main
#deb http://off.test/debian bookworm main
deb [arch=amd64 signed-by=/a.gpg,/b.gpg trusted=yes] http://archive.example/debian-security bookworm/updates main
deb cdrom:[Debian]/debian bookworm main
deb\thttp://archive.example/debian stable main
deb [broken http://archive.example/debian bookworm main
deb http://other.test/docker/linux/debian bookworm stable
";
        let sources = for_suite(&parse(text, false), "bookworm", "trixie", &components());
        let suites: Vec<_> =
            sources.iter().map(|s| (s.suite.as_str(), s.signed_by.as_str())).collect();
        assert_eq!(suites, [("trixie", ""), ("trixie-security", "/a.gpg /b.gpg")]);
    }

    #[test]
    fn an_inline_key_survives_and_what_weakens_checks_does_not() {
        let text = "Types: deb\nURIs: http://archive.example/debian\nSuites: trixie\nComponents: main\nTrusted: yes\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEY\n -----END PGP PUBLIC KEY BLOCK-----\n";
        let sources = for_suite(&parse(text, true), "trixie", "trixie", &components());
        let written = write(&sources);
        assert!(written.contains("\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEY\n"));
        assert!(!written.to_lowercase().contains("trusted"));
        assert_eq!(parse(&written, true), sources);
    }

    #[test]
    fn named_mirrors_serve_suite_updates_and_security() {
        let mirrors = ["http://m.test/debian".to_string(), "http://m.test/debian-security".into()];
        let suites: Vec<_> =
            for_mirrors(&mirrors, "trixie", &components()).into_iter().map(|s| s.suite).collect();
        assert_eq!(suites, ["trixie", "trixie-updates", "trixie-security"]);
        assert!(is_mirror(&mirrors[0]));
        assert!(!is_mirror("http://m.test/debian\nTrusted: yes"));
        assert!(!is_mirror("m.test"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "(?s).{0,400}", deb822: bool) {
            let _ = write(&for_suite(&parse(&text, deb822), "bookworm", "trixie", &[]));
        }
    }
}
