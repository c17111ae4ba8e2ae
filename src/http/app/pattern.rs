//! Path patterns: which paths belong below a group's prefix.
//!
//! `matchit` finds routes, but does not say which groups a path without a route is in. So each
//! prefix is parsed once into segments: literal text, or one parameter with literal text before and
//! after it, as in `v{major}.json`. Doubled braces are text. The rules are those of `matchit`, and
//! a test compares them.

use std::cmp::Ordering;

/// A path or prefix with parameters, as segments.
pub(crate) struct Pattern(Vec<Segment>);

#[derive(Default)]
struct Segment {
    before: String,
    /// Unset if the whole segment is literal.
    parameter: Option<Parameter>,
}

#[derive(Default)]
struct Parameter {
    name: String,
    behind: String,
}

impl Pattern {
    /// Parses a path that `matchit` accepts; another one becomes an arbitrary pattern.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.split('/').map(Segment::new).collect())
    }

    /// Returns the parameters' names in order, without the star of a rest.
    pub(crate) fn names(self) -> impl Iterator<Item = String> {
        let parameters = self.0.into_iter().filter_map(|segment| segment.parameter);
        parameters.map(|parameter| parameter.name.trim_start_matches('*').to_owned())
    }

    /// Returns whether a path matches the pattern or is below it.
    pub(crate) fn holds(&self, path: &str) -> bool {
        let mut found = path.split('/');
        self.0.iter().all(|wanted| found.next().is_some_and(|found| wanted.is_met(found)))
    }

    /// Returns whether both match the same paths. The names of parameters do not count.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.0.iter().map(Segment::literals).eq(other.0.iter().map(Segment::literals))
    }

    /// Compares two patterns that match a path. The more specific one is greater: it is longer, or
    /// has more literal text in the first segment that differs.
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

    /// Matches a segment. A parameter matches at least one byte.
    fn is_met(&self, found: &str) -> bool {
        let Some(parameter) = &self.parameter else { return self.before == found };
        let rest = found.strip_prefix(&*self.before).and_then(|rest| rest.strip_suffix(&*parameter.behind));
        rest.is_some_and(|value| !value.is_empty())
    }

    fn literals(&self) -> (&str, Option<&str>) {
        (&self.before, self.parameter.as_ref().map(|parameter| &*parameter.behind))
    }

    /// Returns the length of the literal text; the maximum for a literal segment.
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
