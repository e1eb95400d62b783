//! Done, refused by the business, or broken.

use std::{error::Error, fmt};

use hospital_types::Refusal;

/// What every operation comes to.
pub type Outcome<T, R> = Result<T, Failure<R>>;

/// Why an operation is not done.
#[derive(Debug)]
pub enum Failure<R> {
    /// The business said no. Nothing was changed.
    Refused(R),
    /// Our fault or the network's.
    Broken(Broken),
}

/// What a broken operation means for whoever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenKind {
    /// Nothing was changed; the same request may succeed later. HTTP 503.
    Unavailable,
    /// It is not known whether it was done. HTTP 503 with a code of its own: a request without a key is not simply sent again.
    Unknown,
    /// A defect. HTTP 500.
    Defect,
}

/// Our fault or the network's: opaque to clients, logged once with its chain, at the edge.
#[derive(Debug)]
pub struct Broken {
    kind: BrokenKind,
    doing: &'static str,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Broken {
    pub fn unavailable(
        doing: &'static str,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { kind: BrokenKind::Unavailable, doing, source: Some(source.into()) }
    }

    pub fn defect(doing: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: BrokenKind::Defect, doing, source: Some(source.into()) }
    }

    /// The same trouble, which leaves open whether the work was done.
    #[must_use]
    pub fn into_unknown(self) -> Self {
        Self { kind: BrokenKind::Unknown, ..self }
    }

    pub const fn kind(&self) -> BrokenKind {
        self.kind
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.doing)?;
        let mut cause = self.source.as_deref().map(|e| e as &(dyn Error + 'static));
        while let Some(e) = cause {
            // PostgreSQL's second line quotes the row, and a row may hold a name.
            let text = e.to_string();
            write!(f, ": {}", text.lines().next().unwrap_or_default())?;
            cause = e.source();
        }
        Ok(())
    }
}
impl Error for Broken {}

impl<R: Refusal> From<R> for Failure<R> {
    fn from(refused: R) -> Self {
        Self::Refused(refused)
    }
}

impl<R> Failure<R> {
    /// The same failure in the words of an enclosing use case.
    pub fn map<S>(self, refused: impl FnOnce(R) -> S) -> Failure<S> {
        match self {
            Self::Refused(r) => Failure::Refused(refused(r)),
            Self::Broken(b) => Failure::Broken(b),
        }
    }
}

impl<R> From<Broken> for Failure<R> {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_broke_is_told_without_the_row_that_broke_it() {
        let quoting =
            "ERROR: a constraint is violated\nDETAIL: Failing row contains (Erika Mustermann).";
        let said = Broken::defect("writing", quoting).to_string();
        assert_eq!(said, "writing: ERROR: a constraint is violated");
    }
}
