//! The page for miners. Nothing of it comes from elsewhere, and nothing needs JavaScript.

use super::{style, text::moment};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use protocol::{
    Address, ChainId, Digest, PublicKey,
    medium::{TokenState, TokenStatus},
};

/// What the first page shows.
pub struct Entry {
    /// Our URL by TLS.
    pub url: String,
    /// Our key, to be pinned.
    pub key: PublicKey,
    /// The chain.
    pub chain: ChainId,
    /// The medium's length.
    pub bytes: u64,
    /// What it holds.
    pub digest: Digest,
    /// How many tokens are kept.
    pub tokens: u64,
}

/// `GET /miners`.
pub fn entry(entry: &Entry) -> Markup {
    frame(
        "A machine of yours",
        html! {
            p {
                "A PC that boots one file works for this network, and what it earns is yours. It needs \
                 no setting on your router, and nothing on its disks is touched."
            }
            h3 { "With " code { "alia" } ", which does all of it" }
            pre.wide { code {
                "alia medium get --provisioner " (entry.url) " --provisioner-key " (entry.key)
                " --out medium.img"
            } }
            p.quiet {
                "It makes a key for the medium, signs with your account's key, fetches the medium and \
                 makes it yours. Your account's key never leaves your computer, nor does the medium's."
            }
            h3 { "Signed elsewhere" }
            p {
                "Where your account's key lies on a computer without this network, have it print a \
                 registration there, and paste it here:"
            }
            pre.wide { code {
                "alia medium sign --provisioner-key " (entry.key)
            } }
            form method="post" action="/miners/medium" {
                p { label for="registration" { "What it printed" } }
                p { textarea #registration name="registration" rows="8" required
                    autocomplete="off" spellcheck="false" {} }
                p {
                    button.first { "Register, and fetch the medium" } " "
                    button formaction="/miners" { "Register alone" }
                }
                p.quiet {
                    "The registration has the medium's secret in it, which goes into the file and is \
                     kept nowhere else. Who has it can let machines work for you, never for himself."
                }
            }
            h3 { "The medium" }
            dl {
                dt { "Nobody's yet" } dd { a href="/miners/medium" { "alia-medium.img" } ", " (entry.bytes >> 20) " MiB" }
                dt { "BLAKE3" } dd { code.long { (entry.digest) } }
                dt { "This provisioner's key" } dd { code.long { (entry.key) } }
                dt { "Chain" } dd { code { (entry.chain) } }
                dt { "Media registered" } dd { (entry.tokens) " of " (crate::miners::limits::MOST) }
            }
        },
    )
}

/// `GET /miners/{address}`.
pub fn owner(address: &Address, tokens: &[TokenStatus]) -> Markup {
    frame(
        "Media of an owner",
        html! {
            p { code.long { (address) } }
            @if tokens.is_empty() { p.quiet { "None is registered here." } }
            @for token in tokens { section.card {
                div.row { h3 { code { (token.token.short()) } } span { (told(token.state)) } }
                dl {
                    dt { "Token" } dd { code.long { (token.token) } }
                    dt { "Registered" } dd { (moment(token.made)) " UTC" }
                    @if matches!(token.state, TokenState::Issued | TokenState::Expired) {
                        dt { "To be used before" } dd { (moment(token.expires.saturating_mul(1_000))) " UTC" }
                    }
                    @if let Some(node) = token.node { dt { "Node" } dd { code.long { (node) } } }
                    @if let Some(mac) = &token.mac {
                        dt { "Machine" } dd { a href={ "/machines/" (mac) } { (mac) } }
                    }
                    @if let Some(at) = token.bound_at { dt { "Since" } dd { (moment(at)) " UTC" } }
                }
            } }
        },
    )
}

/// What was posted is not taken.
pub fn refused(why: &str) -> Markup {
    frame("Not registered", html! { p.problem role="alert" { (why) } })
}

fn told(state: TokenState) -> &'static str {
    match state {
        TokenState::Issued => "waits for its first use",
        TokenState::Bound => "used",
        TokenState::Revoked => "taken back",
        TokenState::Expired => "its time is over",
    }
}

fn frame(title: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · aliaOS" }
                link rel="icon" href="data:,";
                style { (PreEscaped(style::STYLE)) }
            }
            body {
                header { div { h1 { a href="/miners" { "aliaOS for miners" } } } }
                main { h2 { (title) } (body) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_it_comes_from_elsewhere_or_needs_a_script() {
        let page = entry(&Entry {
            url: "https://10.0.0.1:8443".into(),
            key: PublicKey([1; 32]),
            chain: "alia-test".parse().unwrap(),
            bytes: 70 << 20,
            digest: Digest([2; 32]),
            tokens: 3,
        })
        .into_string();
        assert!(!page.contains("<script") && !page.contains("src="), "{page}");
        assert!(page.contains("70 MiB") && page.contains("3 of 5000"), "{page}");
        assert!(!refused("<b>").into_string().contains("<b>"));
    }

    #[test]
    fn an_owner_sees_what_became_of_each_medium() {
        let owned = PublicKey([1; 32]).address();
        let token = TokenStatus {
            token: PublicKey([2; 32]),
            owner: owned,
            state: TokenState::Bound,
            made: 0,
            expires: 0,
            node: Some(PublicKey([3; 32])),
            mac: Some("52:54:00:12:34:56".into()),
            bound_at: Some(1),
        };
        let page = owner(&owned, &[token]).into_string();
        assert!(page.contains("/machines/52:54:00:12:34:56") && page.contains("used"), "{page}");
        assert!(owner(&owned, &[]).into_string().contains("None is registered"));
    }
}
