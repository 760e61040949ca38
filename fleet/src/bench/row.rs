//! One row: our figure, the peer's, and what was to be reached.

use serde::Serialize;
use std::fmt;

/// A row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Which work.
    pub work: &'static str,
    /// Which case of it.
    pub case: String,
    /// Our figure; none where there is nothing to measure yet.
    pub ours: Option<f64>,
    /// Of both figures.
    pub unit: &'static str,
    /// Whom we are held against.
    pub peer: String,
    /// Its figure; none where it cannot be had, or where the goal is a figure by itself.
    pub theirs: Option<f64>,
    /// Above 1 ours is better.
    pub ratio: Option<f64>,
    /// What is to be reached.
    pub goal: String,
    /// Whether it is; none where that cannot be said.
    pub met: Option<bool>,
    /// What else is to be known.
    pub note: String,
}

/// What the ratio has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Better {
    /// More is better.
    More,
    /// Less is better.
    Less,
}

impl Row {
    /// A row with nothing in it yet.
    pub fn new(work: &'static str, case: impl Into<String>, unit: &'static str) -> Self {
        Self {
            work,
            case: case.into(),
            ours: None,
            unit,
            peer: String::new(),
            theirs: None,
            ratio: None,
            goal: String::new(),
            met: None,
            note: String::new(),
        }
    }

    /// Our figure against the peer's, which has to be `times` as good.
    pub fn against(
        mut self,
        ours: f64,
        peer: impl Into<String>,
        theirs: Option<f64>,
        better: Better,
        times: f64,
    ) -> Self {
        self.ours = Some(ours);
        self.peer = peer.into();
        self.theirs = theirs;
        self.ratio = theirs.map(|theirs| match better {
            Better::More => ours / theirs,
            Better::Less => theirs / ours,
        });
        self.goal = format!("ratio >= {times}");
        self.met = self.ratio.map(|ratio| ratio >= times);
        self
    }

    /// Our figure by itself, which has to be at most so much.
    pub fn at_most(mut self, ours: f64, most: f64) -> Self {
        self.ours = Some(ours);
        self.ratio = Some(most / ours);
        self.goal = format!("<= {most} {}", self.unit);
        self.met = Some(ours <= most);
        self
    }

    /// Something that is shown without being a goal.
    pub fn shown(mut self, ours: f64) -> Self {
        self.ours = Some(ours);
        self.goal = "shown".into();
        self
    }

    /// Something that cannot be measured yet.
    pub fn not_yet(mut self, goal: &str, why: impl Into<String>) -> Self {
        self.goal = goal.into();
        self.note = format!("not yet: {}", why.into());
        self
    }

    /// With what else is to be known.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |figure: Option<f64>| match figure {
            None => "-".to_owned(),
            Some(figure) if figure.abs() >= 1_000.0 => format!("{figure:.0}"),
            Some(figure) if figure.abs() >= 1.0 => format!("{figure:.2}"),
            Some(figure) => format!("{figure:.4}"),
        };
        let met = match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        write!(
            f,
            "{:<6} {:<44} ours {:>9} {:<10} {:<22} {:>9}  ratio {:>7}  {} {met}",
            self.work,
            self.case,
            number(self.ours),
            self.unit,
            self.peer,
            number(self.theirs),
            number(self.ratio),
            self.goal
        )?;
        if !self.note.is_empty() {
            write!(f, "\n       {}", self.note)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_above_1_means_that_ours_is_better_whatever_is_counted() {
        let row = || Row::new("http", "x", "MB/s");
        let more = row().against(20.0, "peer", Some(10.0), Better::More, 1.5);
        assert_eq!((more.ratio, more.met), (Some(2.0), Some(true)));
        let less = row().against(20.0, "peer", Some(10.0), Better::Less, 1.0);
        assert_eq!((less.ratio, less.met), (Some(0.5), Some(false)));
        let alone = row().against(20.0, "peer", None, Better::More, 1.0);
        assert_eq!((alone.ratio, alone.met), (None, None));
        assert_eq!(row().at_most(40.0, 50.0).met, Some(true));
    }

    #[test]
    fn what_is_missing_is_said() {
        let text =
            Row::new("http", "HTTPS", "MB/s").not_yet("ratio >= 1", "no listener").to_string();
        assert!(text.contains("not yet: no listener") && text.contains("ratio >= 1"), "{text}");
    }
}
