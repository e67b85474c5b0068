//! A straight line through what was measured, and how sure it is of its slope. Pure.

/// Measurements are taken together into so many points first: those close to each other are not independent (memory
/// that fills and is written out goes up and down over minutes), and a standard error of the slope that takes them as
/// such promises too much. In an hour's floors of memory, neighbours of 24 had a correlation of 0.3, those of 12 none.
const POINTS: usize = 12;

/// The least-squares line through (x, y).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    /// Of y for each x.
    pub(super) slope: f64,
    /// Its standard error.
    pub(super) error: f64,
    /// The mean of y.
    pub(super) mean: f64,
}

impl Line {
    /// Through the means of neighbours. None where there are too few points.
    pub(super) fn through(points: &[(f64, f64)]) -> Option<Self> {
        Self::of(points, mean)
    }

    /// Through the lowest of neighbours: what comes and goes above is left out.
    pub(super) fn under(points: &[(f64, f64)]) -> Option<Self> {
        Self::of(points, |some| {
            some.iter()
                .copied()
                .fold((0.0, f64::INFINITY), |low, point| if point.1 < low.1 { point } else { low })
        })
    }

    fn of(points: &[(f64, f64)], one: impl Fn(&[(f64, f64)]) -> (f64, f64)) -> Option<Self> {
        let size = points.len().div_ceil(POINTS).max(1);
        let points: Vec<(f64, f64)> = points.chunks_exact(size).map(one).collect();
        if points.len() < 3 {
            return None;
        }
        let (x_mean, y_mean) = mean(&points);
        let slope = slope(&points);
        let rest = |(x, y): &(f64, f64)| (y - y_mean - slope * (x - x_mean)).powi(2);
        let variance = points.iter().map(rest).sum::<f64>() / count(points.len() - 2);
        Some(Self { slope, error: (variance / spread(&points)).sqrt(), mean: y_mean })
    }

    /// The slope may well be no more than this.
    pub(super) fn at_least(&self) -> f64 {
        self.slope - 2.0 * self.error
    }

    /// The slope is hardly more than this.
    pub(super) fn at_most(&self) -> f64 {
        self.slope + 2.0 * self.error
    }
}

fn slope(points: &[(f64, f64)]) -> f64 {
    let (x_mean, y_mean) = mean(points);
    points.iter().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum::<f64>() / spread(points)
}

/// Of x about its mean, squared.
fn spread(points: &[(f64, f64)]) -> f64 {
    let (x_mean, _) = mean(points);
    points.iter().map(|(x, _)| (x - x_mean).powi(2)).sum()
}

fn mean(points: &[(f64, f64)]) -> (f64, f64) {
    let (x, y) = points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
    (x / count(points.len()), y / count(points.len()))
}

fn count(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("measurements are few"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_as_it_is() {
        let points: Vec<(f64, f64)> = (0..100).map(|x| (f64::from(x), 7.0 + 3.0 * f64::from(x))).collect();
        let line = Line::through(&points).unwrap();
        assert!((line.slope - 3.0).abs() < 1e-9 && line.error < 1e-6, "{line:?}");
        assert!(Line::through(&points[..2]).is_none());
        let high = |(x, y): &(f64, f64)| (*x, if *x % 2.0 == 0.0 { *y } else { 1e6 });
        let line = Line::under(&points.iter().map(high).collect::<Vec<_>>()).unwrap();
        assert!((line.slope - 3.0).abs() < 0.1, "what is above does not count: {line:?}");
    }

    #[test]
    fn the_error_covers_what_the_noise_does_to_the_slope() {
        // A saw tooth that ends in the middle of a tooth.
        let points: Vec<(f64, f64)> = (0..330).map(|x| (f64::from(x), f64::from(x % 60))).collect();
        let line = Line::through(&points).unwrap();
        assert!(line.at_least() < 0.0 && line.at_most() > 0.0, "{line:?}");
    }
}
