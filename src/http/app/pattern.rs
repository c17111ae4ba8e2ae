//! Path patterns: which paths belong to a route or below a group's prefix.
//!
//! Routes are found by `matchit`, which does not tell which groups a path without a route is in. So
//! a prefix is taken apart once, when it is said, into segments: literal text, or one parameter
//! with literal text before and behind it, `v{major}.json`. Doubled braces are text. The rules are
//! those of `matchit`, and a test holds them against it.

use std::cmp::Ordering;

/// A path or a prefix, segment by segment. A segment without a parameter has the same text in every
/// path.
pub(crate) struct Pattern(Vec<Segment>);

#[derive(Default)]
struct Segment {
    before: String,
    /// None if the whole segment is literal.
    parameter: Option<Parameter>,
}

#[derive(Default)]
struct Parameter {
    name: String,
    behind: String,
}

impl Pattern {
    /// Takes apart what `matchit` accepts; anything else becomes some pattern.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.split('/').map(Segment::new).collect())
    }

    /// The parameters' names in their order, without the star of a rest.
    pub(crate) fn names(self) -> impl Iterator<Item = String> {
        let parameters = self.0.into_iter().filter_map(|segment| segment.parameter);
        parameters.map(|parameter| parameter.name.trim_start_matches('*').to_owned())
    }

    /// Whether a path is this one or below it.
    pub(crate) fn holds(&self, path: &str) -> bool {
        let mut found = path.split('/');
        self.0.iter().all(|wanted| found.next().is_some_and(|found| wanted.is_met(found)))
    }

    /// Whether the same paths belong to both, however the parameters are named.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.0.iter().map(Segment::literals).eq(other.0.iter().map(Segment::literals))
    }

    /// Of two that hold for a path the greater one says more of it: the longer one, or the one with
    /// more text in the first segment that differs.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        let weights = self.0.iter().map(Segment::weight);
        self.0.len().cmp(&other.0.len()).then_with(|| weights.cmp(other.0.iter().map(Segment::weight)))
    }
}

impl Segment {
    fn new(text: &str) -> Self {
        let mut segment = Self::default();
        let mut inside = false;
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            let is_brace = matches!(character, '{' | '}') && characters.next_if_eq(&character).is_none();
            match (&mut segment.parameter, character) {
                (parameter, '{') if is_brace => {
                    *parameter = Some(Parameter::default());
                    inside = true;
                }
                (_, '}') if is_brace => inside = false,
                (None, _) => segment.before.push(character),
                (Some(parameter), _) if inside => parameter.name.push(character),
                (Some(parameter), _) => parameter.behind.push(character),
            }
        }
        segment
    }

    /// A parameter stands for one byte at least.
    fn is_met(&self, found: &str) -> bool {
        let Some(parameter) = &self.parameter else { return self.before == found };
        let rest = found.strip_prefix(&*self.before).and_then(|rest| rest.strip_suffix(&*parameter.behind));
        rest.is_some_and(|value| !value.is_empty())
    }

    fn literals(&self) -> (&str, Option<&str>) {
        (&self.before, self.parameter.as_ref().map(|parameter| &*parameter.behind))
    }

    /// How much of the segment is said, all of it being the most.
    fn weight(&self) -> usize {
        self.parameter.as_ref().map_or(usize::MAX, |parameter| self.before.len() + parameter.behind.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENTS: [&str; 12] =
        ["in", "{x}", "v{n}", "{n}.d", "v{n}.d", "{{x}}", "{{", "}}", "a{{{x}}}b", "{{v{n}", "{long_name}é", "é{x}"];

    #[test]
    fn a_prefix_holds_for_the_paths_that_matchit_finds_below_it() {
        let found =
            ["in", "x", "v", "v1", "1.d", ".d", "v1.d", "v.d", "{x}", "{", "}", "a{x}b", "a{}b", "{v1", "é", "xé", ""];
        let mut held = 0;
        for (first, second) in SEGMENTS.iter().flat_map(|first| SEGMENTS.map(|second| (first, second))) {
            for prefix in [format!("/{first}"), format!("/{first}/{second}").replacen("{x}", "{y}", 1)] {
                let mut tree = matchit::Router::new();
                for end in ["", "/", "/{*rest}"] {
                    tree.insert(format!("{prefix}{end}"), ()).unwrap();
                }
                let pattern = Pattern::new(&prefix);
                for (a, b) in found.iter().flat_map(|a| found.map(|b| (a, b))) {
                    for path in [format!("/{a}"), format!("/{a}/{b}"), format!("/{a}/{b}/"), format!("/{a}/{b}/c")] {
                        assert_eq!(pattern.holds(&path), tree.at(&path).is_ok(), "{prefix} {path}");
                        held += usize::from(pattern.holds(&path));
                    }
                }
            }
        }
        assert!(held > 1000, "{held}");
    }

    #[test]
    fn names_stand_in_order_and_doubled_braces_name_nothing() {
        let names = |path: &str| Pattern::new(path).names().collect::<Vec<_>>();
        assert_eq!(names("/{a}/v{b}.d/{{c}}/{{{d}/{*e}"), ["a", "b", "d", "e"]);
        assert_eq!(names("/{{{d}}}"), ["d}"], "braces are doubled from the left, as matchit has it");
        assert_eq!(names("/{{/}}/x"), [""; 0]);
    }

    #[test]
    fn the_prefix_that_says_more_is_the_greater_one() {
        let rising =
            ["", "/{long_name}", "/v{n}", "/v{n}.d", "/v1", "/{a}/{b}", "/{a}/b", "/a/{b}", "/a/b", "/{a}/{b}/{c}"];
        for (at, one) in rising.iter().enumerate() {
            for (other_at, other) in rising.iter().enumerate() {
                assert_eq!(Pattern::new(one).compare(&Pattern::new(other)), at.cmp(&other_at), "{one} {other}");
            }
        }
        assert!(Pattern::new("/{a}/v{b}").is_like(&Pattern::new("/{c}/v{d}")));
        for other in ["/{c}", "/{c}/w{d}", "/{c}/v{d}w", "/c/v{d}"] {
            assert!(!Pattern::new("/{a}/v{b}").is_like(&Pattern::new(other)), "{other}");
        }
    }
}
