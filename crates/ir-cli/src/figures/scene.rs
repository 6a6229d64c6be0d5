//! A drawing as SVG: lines, areas, marks and real text, at fractions of a pixel.
//!
//! Plotting libraries for Rust round to whole pixels or cannot class an element for a page's
//! style sheet, so the few elements that the figures need are written here. Every element's
//! place is in pixels from the top left corner.

use std::fmt::Write as _;
use std::ops::Range;

use serde::Serialize;

use super::colour::Colour;

/// The fonts of figures and page, best first. The first is built in, for the PNG files.
pub(crate) const FONTS: &str = "'DejaVu Sans', Verdana, 'Segoe UI', Roboto, sans-serif";

/// A place in pixels.
pub(crate) type At = (f64, f64);

/// How a line is drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stroke {
    /// Its colour.
    pub(crate) colour: Colour,
    /// Its width in pixels.
    pub(crate) width: f64,
    /// Lengths of dash and gap, where it is dashed.
    pub(crate) dash: Option<(f64, f64)>,
}

impl Stroke {
    /// A whole line.
    pub(crate) const fn solid(colour: Colour, width: f64) -> Self {
        Self {
            colour,
            width,
            dash: None,
        }
    }

    /// A dashed line.
    pub(crate) const fn dashed(colour: Colour, width: f64) -> Self {
        Self {
            colour,
            width,
            dash: Some((5.0, 3.5)),
        }
    }
}

/// Which point of a text is put at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    /// The left end.
    Start,
    /// The middle.
    Middle,
    /// The right end.
    End,
}

/// How text is set. The place is on the baseline.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Type {
    /// Height in pixels.
    pub(crate) size: f64,
    /// Its colour.
    pub(crate) colour: Colour,
    /// Which of its points is at the place.
    pub(crate) anchor: Anchor,
    /// Whether it is bold.
    pub(crate) bold: bool,
    /// Whether it reads upwards.
    pub(crate) upwards: bool,
    /// Whether it has an edge of paper, to be read across lines.
    pub(crate) halo: bool,
}

impl Type {
    /// Plain text from the place to the right.
    pub(crate) const fn new(size: f64, colour: Colour) -> Self {
        Self {
            size,
            colour,
            anchor: Anchor::Start,
            bold: false,
            upwards: false,
            halo: false,
        }
    }

    /// The same, with another point at the place.
    pub(crate) const fn anchored(mut self, anchor: Anchor) -> Self {
        self.anchor = anchor;
        self
    }

    /// The same in bold.
    pub(crate) const fn bold(mut self) -> Self {
        self.bold = true;
        self
    }

    /// The same reading upwards.
    pub(crate) const fn upwards(mut self) -> Self {
        self.upwards = true;
        self
    }

    /// The same with an edge of paper.
    pub(crate) const fn halo(mut self) -> Self {
        self.halo = true;
        self
    }
}

/// The width of a text in pixels, estimated: DejaVu Sans is 0.6 of its size wide on average.
pub(crate) fn text_width(text: &str, size: f64) -> f64 {
    0.6 * size * text.chars().filter(|&c| c != '_').count() as f64
}

/// A finished drawing: whole, as a paper takes it, and cut into cells, which a page sets side by
/// side where it is wide and one below the other where it is narrow.
#[derive(Debug)]
pub(crate) struct Drawing {
    /// The SVG document.
    pub(crate) whole: String,
    /// The cells of each row from the top, from left to right.
    pub(crate) rows: Vec<Vec<CellSvg>>,
}

/// One cell of a drawing.
#[derive(Debug, Serialize)]
pub(crate) struct CellSvg {
    /// Its SVG element.
    pub(crate) svg: String,
    /// Its width in pixels.
    pub(crate) width: f64,
}

/// A rectangle of a drawing and the part of its text that fills it.
#[derive(Debug)]
struct Cut {
    corner: At,
    size: At,
    content: Range<usize>,
}

/// A drawing that grows element by element; later ones cover earlier ones.
#[derive(Debug)]
pub(crate) struct Scene {
    width: f64,
    body: String,
    cuts: Vec<Cut>,
}

impl Scene {
    /// An empty drawing of a width in pixels.
    pub(crate) fn new(width: f64) -> Self {
        Self {
            width,
            body: String::new(),
            cuts: Vec::new(),
        }
    }

    /// What `draw` draws, as a cell: a rectangle with its upper left corner and its size. Cells
    /// with corners of one height are a row; they are drawn from the top and from the left.
    pub(crate) fn cell(&mut self, corner: At, size: At, draw: impl FnOnce(&mut Self)) {
        let from = self.body.len();
        draw(self);
        let content = from..self.body.len();
        self.cuts.push(Cut {
            corner,
            size,
            content,
        });
    }

    /// A line through the points in order.
    pub(crate) fn line(&mut self, points: &[At], stroke: Stroke) {
        if points.len() < 2 {
            return;
        }
        let _ = write!(self.body, "<path d=\"{}\" fill=\"none\" ", path(points));
        self.stroke(stroke);
        self.body.push_str("/>\n");
    }

    /// The inside of a polygon, half transparent so that others show through.
    pub(crate) fn area(&mut self, corners: &[At], colour: Colour) {
        let (class, value) = (colour.class(), colour.light());
        let _ = writeln!(
            self.body,
            "<path d=\"{}Z\" class=\"f-{class}\" fill=\"{value}\" fill-opacity=\"0.16\"/>",
            path(corners)
        );
    }

    /// A round mark: full, or hollow; with a text that a browser shows where a pointer rests.
    pub(crate) fn mark(&mut self, at: At, radius: f64, colour: Colour, hollow: bool, note: &str) {
        let inside = if hollow { Colour::Paper } else { colour };
        let _ = write!(
            self.body,
            "<circle cx=\"{}\" cy=\"{}\" r=\"{}\" class=\"f-{} s-{}\" fill=\"{}\" stroke=\"{}\" \
             stroke-width=\"1.4\"",
            Short(at.0),
            Short(at.1),
            Short(radius),
            inside.class(),
            colour.class(),
            inside.light(),
            colour.light(),
        );
        if note.is_empty() {
            self.body.push_str("/>\n");
        } else {
            let _ = writeln!(self.body, "><title>{}</title></circle>", escape(note));
        }
    }

    /// Text, with subscripts as [`pieces`] finds them.
    pub(crate) fn text(&mut self, at: At, text: &str, set: Type) {
        let anchor = match set.anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let _ = write!(
            self.body,
            "<text x=\"{}\" y=\"{}\" font-size=\"{}\" text-anchor=\"{anchor}\" class=\"f-{}{}\" \
             fill=\"{}\"",
            Short(at.0),
            Short(at.1),
            Short(set.size),
            set.colour.class(),
            if set.halo { " s-paper" } else { "" },
            set.colour.light(),
        );
        if set.bold {
            self.body.push_str(" font-weight=\"bold\"");
        }
        if set.upwards {
            let (x, y) = (Short(at.0), Short(at.1));
            let _ = write!(self.body, " transform=\"rotate(-90 {x} {y})\"");
        }
        if set.halo {
            let _ = write!(
                self.body,
                " stroke=\"{}\" stroke-width=\"3\" stroke-linejoin=\"round\" paint-order=\"stroke\"",
                Colour::Paper.light()
            );
        }
        let _ = writeln!(self.body, ">{}</text>", subscripts(text, set.size));
    }

    /// What `draw` draws, as a group that a page can hide: the lines of one split.
    pub(crate) fn part(&mut self, colour: Colour, draw: impl FnOnce(&mut Self)) {
        let class = match colour {
            Colour::Train | Colour::TrainExitGradient => "of-train",
            Colour::Test | Colour::ExitGradient => "of-test",
            _ => return draw(self),
        };
        let _ = writeln!(self.body, "<g class=\"{class}\">");
        draw(self);
        self.body.push_str("</g>\n");
    }

    /// The document, whole and in cells. `name` is read to those who cannot see it.
    pub(crate) fn finish(self, height: f64, name: &str) -> Drawing {
        let name = escape(name);
        let paper = format!(
            "<rect width=\"{}\" height=\"{}\" class=\"f-paper\" fill=\"{}\"/>\n",
            Short(self.width),
            Short(height),
            Colour::Paper.light()
        );
        let whole = document(
            (0.0, 0.0),
            (self.width, height),
            &name,
            &[&paper, &self.body],
        );
        let rows = self.cuts.chunk_by(|a, b| a.corner.1 == b.corner.1);
        let cell = |cut: &Cut| CellSvg {
            svg: document(
                cut.corner,
                cut.size,
                &name,
                &[&self.body[cut.content.clone()]],
            ),
            width: cut.size.0,
        };
        Drawing {
            rows: rows.map(|row| row.iter().map(cell).collect()).collect(),
            whole,
        }
    }

    fn stroke(&mut self, stroke: Stroke) {
        let _ = write!(
            self.body,
            "class=\"s-{}\" stroke=\"{}\" stroke-width=\"{}\" stroke-linejoin=\"round\"",
            stroke.colour.class(),
            stroke.colour.light(),
            Short(stroke.width)
        );
        if let Some((dash, gap)) = stroke.dash {
            let _ = write!(
                self.body,
                " stroke-dasharray=\"{} {}\"",
                Short(dash),
                Short(gap)
            );
        }
    }
}

/// An SVG document that shows a rectangle of the drawing.
fn document(corner: At, size: At, name: &str, parts: &[&str]) -> String {
    let (left, top) = (Short(corner.0), Short(corner.1));
    let (width, height) = (Short(size.0), Short(size.1));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"{left} {top} {width} {height}\" role=\"img\" aria-label=\"{name}\" \
         font-family=\"{FONTS}\">\n{}</svg>\n",
        parts.concat()
    )
}

fn path(points: &[At]) -> String {
    let mut data = String::new();
    for (index, (x, y)) in points.iter().enumerate() {
        let command = if index == 0 { 'M' } else { 'L' };
        let _ = write!(data, "{command}{} {}", Short(*x), Short(*y));
    }
    data
}

/// A text cut at its subscripts: (piece, whether it is one). In `h_j` the j is a subscript, in
/// `my_net` nothing is: only a single character counts, with no letter or digit after it.
pub(crate) fn pieces(text: &str) -> Vec<(&str, bool)> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut from = 0;
    while let Some(found) = rest[from..].find('_') {
        let mark = from + found;
        let mut after = rest[mark + 1..].char_indices();
        let subscript = after.next().filter(|(_, c)| c.is_alphanumeric());
        let next = after.next();
        match subscript {
            Some(_) if next.is_none_or(|(_, c)| !c.is_alphanumeric()) => {
                let end = next.map_or(rest.len(), |(index, _)| mark + 1 + index);
                pieces.push((&rest[..mark], false));
                pieces.push((&rest[mark + 1..end], true));
                rest = &rest[end..];
                from = 0;
            }
            _ => from = mark + 1,
        }
    }
    pieces.push((rest, false));
    pieces.retain(|(piece, _)| !piece.is_empty());
    pieces
}

/// Subscripts lowered and smaller. What follows one is raised again by as much.
fn subscripts(text: &str, size: f64) -> String {
    let drop = 0.22 * size;
    let mut out = String::new();
    let mut lowered = false;
    for (piece, subscript) in pieces(text) {
        let piece = escape(piece);
        let _ = match (subscript, lowered) {
            (true, _) => write!(
                out,
                "<tspan dy=\"{}\" font-size=\"{}\">{piece}</tspan>",
                Short(drop),
                Short(0.72 * size)
            ),
            (false, true) => write!(out, "<tspan dy=\"{}\">{piece}</tspan>", Short(-drop)),
            (false, false) => write!(out, "{piece}"),
        };
        lowered = subscript;
    }
    out
}

/// Text as XML content or attribute value.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML has no place for the other control characters, not even escaped.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A coordinate with at most two decimals.
struct Short(f64);

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{:.2}", self.0);
        let text = text.trim_end_matches('0').trim_end_matches('.');
        f.write_str(if text == "-0" { "0" } else { text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_are_short() {
        for (value, text) in [(1.0, "1"), (0.25, "0.25"), (-0.001, "0"), (10.0, "10")] {
            assert_eq!(Short(value).to_string(), text);
        }
    }

    #[test]
    fn subscripts_are_lowered_and_raised_again() {
        assert_eq!(
            subscripts("F_j<", 10.0),
            "F<tspan dy=\"2.2\" font-size=\"7.2\">j</tspan><tspan dy=\"-2.2\">&lt;</tspan>"
        );
        for plain in ["a_", "my_net", "_"] {
            assert_eq!(pieces(plain), [(plain, false)]);
        }
        assert_eq!(pieces("‖h_j‖"), [("‖h", false), ("j", true), ("‖", false)]);
    }

    #[test]
    fn what_xml_cannot_hold_is_replaced() {
        assert_eq!(escape("a&b\u{1}\"<"), "a&amp;b &quot;&lt;");
    }
}
