//! Which inputs of a corpus reach what, as libFuzzer notes it in the control file of a merge, and those few of them that
//! reach the most. Pure.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// An input, and what it reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Input {
    pub(super) path: PathBuf,
    bytes: u64,
    features: Vec<u32>,
}

impl Input {
    /// Its name without the folders.
    pub(super) fn name(&self) -> Result<&str> {
        self.path.file_name().and_then(|name| name.to_str()).context("a file of a corpus has a name")
    }
}

/// Reads a control file: two counts, the paths, and then for each input `STARTED number bytes` and
/// `FT number feature…`. A feature may stand with the first input alone that reaches it, which is the smallest.
pub(super) fn read(control: &str) -> Vec<Input> {
    let mut lines = control.lines();
    let count = lines.next().and_then(|count| count.parse().ok()).unwrap_or(0);
    let paths = lines.by_ref().skip(1).take(count);
    let mut inputs: Vec<Input> =
        paths.map(|path| Input { path: path.into(), bytes: 0, features: Vec::new() }).collect();
    for line in lines {
        let mut words = line.split_whitespace();
        let word = words.next();
        let number = words.next().and_then(|number| number.parse::<usize>().ok());
        let Some(input) = number.and_then(|number| inputs.get_mut(number)) else { continue };
        match word {
            Some("STARTED") => input.bytes = words.next().and_then(|bytes| bytes.parse().ok()).unwrap_or(0),
            Some("FT") => input.features = words.filter_map(|feature| feature.parse().ok()).collect(),
            _ => {}
        }
    }
    inputs
}

/// So many inputs of so many bytes at the most, each the one that adds the most to those before it, and the part of
/// everything that they reach.
#[allow(clippy::cast_precision_loss, reason = "features are far fewer than 2^52")]
pub(super) fn choose(all: &[Input], files_max: usize, bytes_max: u64) -> (Vec<&Input>, f64) {
    let everything: BTreeSet<u32> = all.iter().flat_map(|input| input.features.iter().copied()).collect();
    let (mut reached, mut chosen, mut bytes) = (BTreeSet::new(), Vec::new(), 0);
    while chosen.len() < files_max {
        let adds =
            |input: &&Input| input.features.iter().filter(|feature| !reached.contains(*feature)).count();
        let fits = all.iter().filter(|input| bytes + input.bytes <= bytes_max);
        let best = fits
            .map(|input| (adds(&input), Reverse(input.bytes), input))
            .max_by_key(|(n, size, _)| (*n, *size));
        let Some((1.., _, best)) = best else { break };
        reached.extend(best.features.iter().copied());
        bytes += best.bytes;
        chosen.push(best);
    }
    (chosen, reached.len() as f64 / everything.len().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTROL: &str = "4\n0\nw/a\nw/b\nw/c\nw/d\nSTARTED 0 10\nFT 0 1 2 3\nCOV 0 7\nSTARTED 1 4\nFT 1 3 4\nSTARTED 2 3\n\
        FT 2 2 3 1\nSTARTED 3 900\nFT 3 5\n";

    #[test]
    fn what_adds_the_most_comes_first_and_the_smaller_of_two_alike() {
        let all = read(CONTROL);
        let names = |files, bytes| {
            let (chosen, part) = choose(&all, files, bytes);
            (chosen.iter().map(|input| input.name().unwrap()).collect::<Vec<_>>(), part)
        };
        assert_eq!(names(9, 1_000), (vec!["c", "b", "d"], 1.0));
        assert_eq!(names(9, 100), (vec!["c", "b"], 0.8));
        assert_eq!(names(1, 100), (vec!["c"], 0.6));
    }

    #[test]
    fn an_empty_control_file_is_no_corpus() {
        assert!(read("").is_empty() && choose(&[], 9, 9).0.is_empty());
    }
}
