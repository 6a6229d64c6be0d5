//! A line chart as SVG.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 80.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// About as many ticks an axis.
const TICKS: f64 = 6.0;

/// Curves over a common x axis of whole numbers.
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) x_title: String,
    pub(super) y_title: String,
    /// x of every line's first value.
    pub(super) first_x: usize,
    pub(super) lines: Vec<Line>,
}

/// One curve. Lines of one name have one colour and are named once.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) colour: &'static str,
    pub(super) values: Vec<f64>,
}

/// A linear scale from values to positions.
struct Scale {
    from: [f64; 2],
    to: [f64; 2],
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        let [low, high] = self.from;
        let [start, end] = self.to;
        start + (value - low) / (high - low).max(f64::MIN_POSITIVE) * (end - start)
    }

    /// Multiples of 1, 2 or 5 times a power of ten.
    fn ticks(&self) -> Vec<f64> {
        let [low, high] = self.from;
        let rough = (high - low).max(f64::MIN_POSITIVE) / TICKS;
        let power = 10f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
        let step = steps
            .into_iter()
            .find(|step| *step >= rough)
            .unwrap_or(rough);
        let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
        (first..=last)
            .map(|multiple| multiple as f64 * step)
            .collect()
    }
}

impl Chart {
    pub(super) fn to_svg(&self) -> String {
        let values = || self.lines.iter().flat_map(|line| &line.values).copied();
        let longest = self
            .lines
            .iter()
            .map(|line| line.values.len())
            .max()
            .unwrap_or(1);
        let first = self.first_x as f64;
        let x = Scale {
            from: [first, first + longest.saturating_sub(1) as f64],
            to: [LEFT, WIDTH - RIGHT],
        };
        let lowest = values().fold(f64::INFINITY, f64::min).min(f64::MAX);
        let y = Scale {
            from: [lowest, values().fold(f64::MIN, f64::max)],
            to: [HEIGHT - BOTTOM, TOP],
        };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
        );
        let mut add = |element: String| svg.extend([element.as_str(), "\n"]);
        add(text([LEFT, TOP - 18.0], "start", "black", &self.title));
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        add(text(
            [middle, HEIGHT - 12.0],
            "middle",
            "black",
            &self.x_title,
        ));
        add(text([LEFT, TOP - 3.0], "start", "black", &self.y_title));
        for tick in x.ticks() {
            add(text(
                [x.at(tick), HEIGHT - BOTTOM + 16.0],
                "middle",
                "#555",
                &format!("{tick}"),
            ));
        }
        for tick in y.ticks() {
            let height = y.at(tick);
            let (start, end) = (LEFT, WIDTH - RIGHT);
            add(format!(
                "<path d=\"M{start} {height:.1}H{end}\" stroke=\"#ddd\" fill=\"none\"/>"
            ));
            let label = format!("{}", (tick * 1e6).round() / 1e6);
            add(text([LEFT - 6.0, height + 4.0], "end", "#555", &label));
        }
        for line in &self.lines {
            add(line.path(&x, &y, first));
        }
        for (row, (name, colour)) in self.names().into_iter().enumerate() {
            let place = [WIDTH - RIGHT + 8.0, TOP + 16.0 * (row + 1) as f64];
            add(text(place, "start", colour, name));
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// Every name once, with its colour.
    fn names(&self) -> Vec<(&str, &str)> {
        let mut names: Vec<(&str, &str)> = Vec::new();
        for line in &self.lines {
            if !names.iter().any(|(name, _)| *name == line.name) {
                names.push((&line.name, line.colour));
            }
        }
        names
    }
}

impl Line {
    fn path(&self, x: &Scale, y: &Scale, first: f64) -> String {
        let mut path = String::new();
        for (index, value) in self.values.iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            let (x, y) = (x.at(first + index as f64), y.at(*value));
            // Writing to a string cannot fail.
            let _ = write!(path, "{command}{x:.1} {y:.1}");
        }
        let colour = self.colour;
        format!("<path d=\"{path}\" stroke=\"{colour}\" stroke-width=\"1.2\" fill=\"none\"/>")
    }
}

fn text([x, y]: [f64; 2], anchor: &str, colour: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{text}</text>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let scale = Scale {
            from: [0.83, 2.31],
            to: [0.0, 1.0],
        };
        let ticks = scale.ticks();
        let hundredths: Vec<i64> = ticks
            .iter()
            .map(|tick| (tick * 100.0).round() as i64)
            .collect();
        assert_eq!(hundredths, [100, 150, 200]);
    }

    #[test]
    fn a_line_goes_from_corner_to_corner() {
        let line = |name: &str, values: &[f64]| Line {
            name: name.to_owned(),
            colour: "black",
            values: values.to_vec(),
        };
        let chart = Chart {
            title: "a < b".to_owned(),
            x_title: "step".to_owned(),
            y_title: "loss".to_owned(),
            first_x: 10,
            lines: vec![line("ours", &[2.0, 1.0]), line("ours", &[2.0, 2.0])],
        };
        let svg = chart.to_svg();
        assert!(svg.contains("d=\"M60.0 40.0L640.0 350.0\""), "{svg}");
        assert!(svg.contains("a &lt; b"));
        assert_eq!(svg.matches(">ours<").count(), 1);
    }
}
