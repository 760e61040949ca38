//! Signing in.

use super::page;
use maud::{Markup, html};

/// `GET /sign-in`. `to` is where to go then.
pub fn sign_in(operator: Option<&str>, to: &str, wrong: Option<&str>) -> Markup {
    page(
        "Sign in · aliaOS",
        "/sign-in",
        operator,
        html! {
            main #main.narrow {
                h2 { "Sign in" }
                @if let Some(wrong) = wrong { p.problem role="alert" { (wrong) } }
                @if let Some(operator) = operator {
                    p { "You are operator " strong { (operator) } "." }
                }
                form.stack method="post" action="/sign-in" {
                    input type="hidden" name="to" value=(to);
                    // By what a browser keeps the token, where somebody has it do so.
                    input type="text" value="aliaOS operator" autocomplete="username" readonly hidden;
                    label for="token" { "Operator's token" }
                    input #token type="password" name="token" required autocomplete="current-password"
                        spellcheck="false" autofocus;
                    button.first type="submit" { "Sign in" }
                }
                p.quiet {
                    "The first start of the provisioner showed one. On its host "
                    code { "provisioner token add NAME" } " makes another."
                }
            }
        },
    )
}
