//! Whether a GPU's product name is one that a pattern means: the globs of `globset`, without regard to case, stepped
//! through without making a regular expression of them, for a claim asks it of thousands of jobs. Takes at most time
//! of pattern times name, whatever they are.

/// Bytes of a pattern. One that is longer matches nothing; `job::validate` refuses it at submit.
const LONGEST: usize = 128;

/// `A100*` means `NVIDIA A100-SXM4-80GB`: the glob may begin at any word of the product name. A pattern that is no
/// glob matches nothing.
pub(super) fn model_matches(glob: &str, model: &str) -> bool {
    parse(glob).is_some_and(|steps| runs(&steps, model))
}

#[derive(Clone, Debug)]
enum Step {
    One(char),
    Any,
    /// Any number of any.
    Many,
    Class(Class),
    /// To each of these.
    Fork(Vec<usize>),
    End,
}

#[derive(Clone, Debug, Default)]
struct Class {
    not: bool,
    ranges: Vec<(char, char)>,
}

/// A list of alternatives that is not closed yet.
struct Open {
    fork: usize,
    /// Where each begins.
    starts: Vec<usize>,
    /// The steps after each but the last: they go to the end of the list.
    ends: Vec<usize>,
}

fn parse(glob: &str) -> Option<Vec<Step>> {
    if glob.is_empty() || glob.len() > LONGEST {
        return None;
    }
    let (mut steps, mut open) = (Vec::with_capacity(glob.len() + 1), Vec::new());
    let mut letters = glob.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '*' => steps.push(Step::Many),
            '?' => steps.push(Step::Any),
            '[' => steps.push(Step::Class(class(&mut letters)?)),
            '\\' => steps.push(Step::One(folded(letters.next()?))),
            '{' => {
                let fork = steps.len();
                steps.push(Step::Fork(Vec::new()));
                open.push(Open { fork, starts: vec![fork + 1], ends: Vec::new() });
            }
            ',' if !open.is_empty() => {
                let list = open.last_mut()?;
                list.ends.push(steps.len());
                steps.push(Step::Fork(Vec::new()));
                list.starts.push(steps.len());
            }
            '}' => close(open.pop()?, &mut steps),
            other => steps.push(Step::One(folded(other))),
        }
    }
    steps.push(Step::End);
    open.is_empty().then_some(steps)
}

/// Empty alternatives are none, as in `globset`.
fn close(list: Open, steps: &mut [Step]) {
    let over = steps.len();
    let ends = list.ends.iter().copied().chain([over]);
    let alternatives = list.starts.iter().copied().zip(ends).filter(|(start, end)| start < end);
    let mut starts: Vec<_> = alternatives.map(|(start, _)| start).collect();
    if starts.is_empty() {
        starts.push(over);
    }
    steps[list.fork] = Step::Fork(starts);
    for end in list.ends {
        steps[end] = Step::Fork(vec![over]);
    }
}

/// What stands after `[`.
fn class(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Class> {
    let mut class =
        Class { not: letters.next_if(|first| matches!(first, '!' | '^')).is_some(), ..Class::default() };
    let mut first = true;
    loop {
        let from = letters.next()?;
        if from == ']' && !first {
            return Some(class);
        }
        first = false;
        let mut to = from;
        if letters.peek() == Some(&'-') {
            letters.next();
            match letters.peek() {
                // It stands for itself at the end.
                Some(']') => class.ranges.push(('-', '-')),
                Some(_) => to = letters.next()?,
                None => return None,
            }
        }
        if to < from {
            return None;
        }
        class.ranges.push((from, to));
    }
}

fn runs(steps: &[Step], model: &str) -> bool {
    let (mut now, mut next) = (vec![false; steps.len()], vec![false; steps.len()]);
    reach(steps, &mut now, 0);
    for letter in model.chars() {
        for (at, step) in steps.iter().enumerate().filter(|(at, _)| now[*at]) {
            match step {
                Step::Many => reach(steps, &mut next, at),
                Step::One(_) | Step::Any | Step::Class(_) if step.takes(letter) => {
                    reach(steps, &mut next, at + 1)
                }
                _ => {}
            }
        }
        if letter == ' ' {
            reach(steps, &mut next, 0);
        }
        std::mem::swap(&mut now, &mut next);
        next.fill(false);
    }
    now[steps.len() - 1]
}

/// Also what follows without a letter.
fn reach(steps: &[Step], set: &mut [bool], at: usize) {
    let mut todo = vec![at];
    while let Some(at) = todo.pop() {
        if std::mem::replace(&mut set[at], true) {
            continue;
        }
        match &steps[at] {
            Step::Many => todo.push(at + 1),
            Step::Fork(all) => todo.extend(all),
            Step::One(_) | Step::Any | Step::Class(_) | Step::End => {}
        }
    }
}

impl Step {
    fn takes(&self, letter: char) -> bool {
        match self {
            Self::One(one) => *one == folded(letter),
            Self::Any => true,
            Self::Class(Class { not, ranges }) => {
                let both = [letter.to_ascii_lowercase(), letter.to_ascii_uppercase()];
                let within = |(from, to): &(char, char)| both.iter().any(|one| (from..=to).contains(&one));
                ranges.iter().any(within) != *not
            }
            Self::Many | Self::Fork(_) | Self::End => false,
        }
    }
}

const fn folded(letter: char) -> char {
    letter.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The slow way.
    fn by_globset(glob: &str, model: &str) -> bool {
        let Ok(glob) = globset::GlobBuilder::new(glob).case_insensitive(true).build() else { return false };
        let glob = glob.compile_matcher();
        let words = model.match_indices(' ').map(|(at, _)| at + 1);
        std::iter::once(0).chain(words).any(|at| glob.is_match(&model[at..]))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]
        #[test]
        fn every_glob_matches_what_globset_says(
            glob in "[A-Ca*?{},\\[\\]!^\\\\ -]{1,9}", model in "[A-Ca ,-]{1,8}",
        ) {
            prop_assert_eq!(model_matches(&glob, &model), by_globset(&glob, &model), "{} on {}", glob, model);
        }
    }

    #[test]
    fn alternatives_may_hold_others() {
        for (glob, is) in [("{H100,A{1,4}00}*", true), ("A{,4}100*", false), ("NVIDIA {A,H}10[0-9]*", true)] {
            assert_eq!(model_matches(glob, "NVIDIA A100-SXM4-80GB"), is, "{glob}");
            assert_eq!(by_globset(glob, "NVIDIA A100-SXM4-80GB"), is, "{glob}");
        }
    }

    #[test]
    fn the_worst_pattern_is_over_at_once() {
        let worst = "*a".repeat(LONGEST / 2);
        let started = std::time::Instant::now();
        assert!(!model_matches(&worst, &"a".repeat(60)));
        assert!(!model_matches(&"{a,b}".repeat(25), &"a".repeat(60)));
        assert!(started.elapsed() < std::time::Duration::from_millis(100), "{:?}", started.elapsed());
        assert!(!model_matches(&"a".repeat(LONGEST + 1), &"a".repeat(LONGEST + 1)));
    }
}
