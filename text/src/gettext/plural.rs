//! `Plural-Forms: nplurals=3; plural=n%10==1 && n%100!=11 ? 0 : 2;` from a catalogue's header.

use std::str::FromStr;

/// The longest rule read, in bytes. The longest in use (Arabic) has about 120.
const MAX_LEN: usize = 1_000;
/// The deepest nesting: one level a parenthesis, operator or `?:`; bounds the stack.
const MAX_DEPTH: u32 = 100;

/// Which of a message's plural forms goes with a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluralRule {
    forms: usize,
    expression: Expression,
}

/// Why a `Plural-Forms` field cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the header's Plural-Forms cannot be read near byte {at}: \"nplurals=N; plural=EXPRESSION;\" in C's notation is wanted"
)]
pub struct PluralRuleError {
    at: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expression {
    N,
    Number(u64),
    Not(Box<Expression>),
    Binary(Box<Expression>, &'static str, Box<Expression>),
    Choice(Box<Expression>, Box<Expression>, Box<Expression>),
}

/// C's binary operators from loosest to tightest. Longer ones stand before their prefixes.
const LEVELS: [&[&str]; 6] =
    [&["||"], &["&&"], &["==", "!="], &["<=", ">=", "<", ">"], &["+", "-"], &["*", "/", "%"]];

impl PluralRule {
    /// One form for 1, another for every other number.
    pub fn germanic() -> Self {
        let expression =
            Expression::Binary(Box::new(Expression::N), "!=", Box::new(Expression::Number(1)));
        Self { forms: 2, expression }
    }

    /// The form for `n`, from 0. None where the rule divides by zero or names a form beyond its
    /// own count.
    pub fn form_of(&self, n: u64) -> Option<usize> {
        let form = usize::try_from(self.expression.value(n)?).ok()?;
        (form < self.forms).then_some(form)
    }

    /// The form that most numbers from 2 to 100 take: the one to stand for "many".
    pub fn usual_plural(&self) -> Option<usize> {
        let mut uses: Vec<(usize, usize)> = Vec::new();
        for form in (2..=100).filter_map(|n| self.form_of(n)) {
            match uses.iter_mut().find(|(known, _)| *known == form) {
                Some((_, count)) => *count += 1,
                None => uses.push((form, 1)),
            }
        }
        uses.into_iter().max_by_key(|(_, count)| *count).map(|(form, _)| form)
    }
}

impl Expression {
    fn value(&self, n: u64) -> Option<u64> {
        Some(match self {
            Self::N => n,
            Self::Number(number) => *number,
            Self::Not(inner) => u64::from(inner.value(n)? == 0),
            Self::Choice(condition, then, other) => {
                return if condition.value(n)? != 0 { then.value(n) } else { other.value(n) };
            }
            Self::Binary(left, operator, right) => {
                let left = left.value(n)?;
                // As in C the right side is not looked at when the left decides.
                match (*operator, left) {
                    ("||", 1..) => return Some(1),
                    ("&&", 0) => return Some(0),
                    _ => {}
                }
                let right = right.value(n)?;
                match *operator {
                    "||" | "&&" => u64::from(right != 0),
                    "==" => u64::from(left == right),
                    "!=" => u64::from(left != right),
                    "<=" => u64::from(left <= right),
                    ">=" => u64::from(left >= right),
                    "<" => u64::from(left < right),
                    ">" => u64::from(left > right),
                    "+" => left.wrapping_add(right),
                    "-" => left.wrapping_sub(right),
                    "*" => left.wrapping_mul(right),
                    "/" => left.checked_div(right)?,
                    _ => left.checked_rem(right)?,
                }
            }
        })
    }
}

impl FromStr for PluralRule {
    type Err = PluralRuleError;

    fn from_str(text: &str) -> Result<Self, PluralRuleError> {
        if text.len() > MAX_LEN {
            return Err(PluralRuleError { at: MAX_LEN });
        }
        let mut parser = Parser { text, at: 0 };
        parser.expect("nplurals")?;
        parser.expect("=")?;
        let forms = parser.number().ok_or(parser.error())?;
        parser.expect(";")?;
        parser.expect("plural")?;
        parser.expect("=")?;
        let expression = parser.choice(0)?;
        let ended = parser.eat(";") || parser.at == text.len();
        match usize::try_from(forms) {
            Ok(forms) if ended && forms > 0 => Ok(Self { forms, expression }),
            _ => Err(parser.error()),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn error(&self) -> PluralRuleError {
        PluralRuleError { at: self.at }
    }

    fn rest(&mut self) -> &str {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        &self.text[self.at..]
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn expect(&mut self, token: &str) -> Result<(), PluralRuleError> {
        if self.eat(token) { Ok(()) } else { Err(self.error()) }
    }

    fn number(&mut self) -> Option<u64> {
        let rest = self.rest();
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number = rest[..digits].parse().ok()?;
        self.at += digits;
        Some(number)
    }

    fn choice(&mut self, depth: u32) -> Result<Expression, PluralRuleError> {
        if depth > MAX_DEPTH {
            return Err(self.error());
        }
        let condition = self.binary(depth, 0)?;
        if !self.eat("?") {
            return Ok(condition);
        }
        let then = self.choice(depth + 1)?;
        self.expect(":")?;
        let other = self.choice(depth + 1)?;
        Ok(Expression::Choice(Box::new(condition), Box::new(then), Box::new(other)))
    }

    fn binary(&mut self, depth: u32, level: usize) -> Result<Expression, PluralRuleError> {
        let Some(operators) = LEVELS.get(level) else { return self.unary(depth) };
        let mut left = self.binary(depth, level + 1)?;
        let mut length = depth;
        while let Some(operator) = operators.iter().copied().find(|operator| self.eat(operator)) {
            // Each operator makes the tree one deeper on the left.
            length += 1;
            if length > MAX_DEPTH {
                return Err(self.error());
            }
            let right = self.binary(depth + 1, level + 1)?;
            left = Expression::Binary(Box::new(left), operator, Box::new(right));
        }
        Ok(left)
    }

    fn unary(&mut self, depth: u32) -> Result<Expression, PluralRuleError> {
        if depth > MAX_DEPTH {
            return Err(self.error());
        }
        if self.eat("!") {
            return Ok(Expression::Not(Box::new(self.unary(depth + 1)?)));
        }
        if self.eat("(") {
            let inner = self.choice(depth + 1)?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.eat("n") {
            return Ok(Expression::N);
        }
        self.number().map(Expression::Number).ok_or(self.error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn forms(rule: &str, numbers: &[u64]) -> Vec<usize> {
        let rule: PluralRule = rule.parse().unwrap();
        numbers.iter().map(|n| rule.form_of(*n).unwrap()).collect()
    }

    #[test]
    fn rules_of_real_languages_give_their_forms() {
        let russian = "nplurals=3; plural=(n%10==1 && n%100!=11 ? 0 : n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2);";
        assert_eq!(forms(russian, &[1, 2, 5, 11, 21, 22, 111]), [0, 1, 2, 2, 0, 1, 2]);
        let slovene =
            "nplurals=4; plural=(n%100==1 ? 1 : n%100==2 ? 2 : n%100==3 || n%100==4 ? 3 : 0)";
        assert_eq!(forms(slovene, &[1, 2, 3, 5, 101]), [1, 2, 3, 0, 1]);
        assert_eq!(slovene.parse::<PluralRule>().unwrap().usual_plural(), Some(0));
        assert_eq!(forms("nplurals=2; plural=n>1;", &[0, 1, 2]), [0, 0, 1]);
        assert_eq!(forms("nplurals=1; plural=0;", &[0, 1, 7]), [0, 0, 0]);
        assert_eq!(forms("nplurals=2; plural=!(n==1)", &[1, 2]), [0, 1]);
    }

    #[test]
    fn operators_bind_as_in_c() {
        assert_eq!(forms("nplurals=99; plural=1+2*3-8/4%3==5&&1||0;", &[0]), [1]);
        assert_eq!(forms("nplurals=99; plural=7-2-1", &[0]), [4]);
    }

    #[test]
    fn nonsense_and_impossible_forms_are_refused() {
        for text in [
            "",
            "nplurals=INTEGER; plural=EXPRESSION;",
            "nplurals=2; plural=n+;",
            "nplurals=0; plural=0;",
            "nplurals=2; plural=n!=1 !",
        ] {
            assert!(text.parse::<PluralRule>().is_err(), "{text}");
        }
        let rule: PluralRule = "nplurals=2; plural=n/(n-5);".parse().unwrap();
        assert_eq!((rule.form_of(5), rule.form_of(6)), (None, None));
        let deep = format!("nplurals=2; plural={}n", "(".repeat(900));
        assert!(deep.parse::<PluralRule>().is_err());
        let long = format!("nplurals=2; plural=n{}", "+n".repeat(400));
        assert!(long.parse::<PluralRule>().is_err());
    }

    proptest! {
        #[test]
        fn no_rule_panics(text in "[n0-9()!?:&|=<>+*/% -]{0,60}", n in any::<u64>()) {
            if let Ok(rule) = format!("nplurals=3; plural={text}").parse::<PluralRule>() {
                let _ = rule.form_of(n);
                let _ = rule.usual_plural();
            }
        }
    }
}
