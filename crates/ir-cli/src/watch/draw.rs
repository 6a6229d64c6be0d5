//! The frame of `ir watch`: a line of numbers, the progress, curves over epochs, bars by block.

use std::time::Duration;

use indicatif::HumanDuration;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{LineGauge, Paragraph, Widget, Wrap};

use super::Watched;
use super::plot::{Bars, Curves, Points, SMALLEST, Scale};
use crate::run::{BlockRow, Epoch};

/// A run drawn on the terminal, or as text.
pub(crate) struct View<'a> {
    /// The run.
    pub(crate) watched: &'a Watched,
    /// Whether the keys are named.
    pub(crate) keys: bool,
}

impl Widget for View<'_> {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let rows = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(1),
            Constraint::Fill(1),
            Constraint::Fill(1),
            Constraint::Length(u16::from(self.keys || self.watched.trouble.is_some())),
        ]);
        let [numbers, progress, curves, bars, foot] = rows.areas(area);
        self.numbers().render(numbers, buffer);
        self.progress(progress, buffer);
        self.curves(curves, buffer);
        self.bars(bars, buffer);
        self.foot().render(foot, buffer);
    }
}

impl View<'_> {
    /// The run's name and where it is.
    fn numbers(&self) -> Paragraph<'static> {
        let (info, history) = (&self.watched.run.info, &self.watched.run.history);
        let name = Line::from(vec![
            info.model.clone().bold(),
            format!(" on {}, seed {}", info.dataset, info.seed).into(),
            format!(" · {}", self.watched.folder.display()).dim(),
        ]);
        let Some(last) = history.last() else {
            return Paragraph::new(vec![name, Line::from("nothing is recorded yet")]);
        };
        let trained = history.iter().filter(|epoch| epoch.epoch > 0);
        let accuracies = trained.map(|epoch| epoch.test_accuracy);
        let best = accuracies.fold(f64::NEG_INFINITY, f64::max);
        let mut numbers = format!("test {:.2} %", 100.0 * last.test_accuracy);
        if best.is_finite() {
            numbers += &format!(", best {:.2} %", 100.0 * best);
        }
        numbers += &format!(", loss {:.4}", f64::from(last.test_loss));
        if let (Some(accuracy), Some(loss)) = (last.train_accuracy, last.train_loss) {
            let (accuracy, loss) = (100.0 * accuracy, f64::from(loss));
            numbers += &format!(" · train {accuracy:.2} %, loss {loss:.4}");
        }
        Paragraph::new(vec![name, Line::from(numbers)])
    }

    /// How many epochs are done, and how long the others take.
    fn progress(&self, area: Rect, buffer: &mut Buffer) {
        let (info, history) = (&self.watched.run.info, &self.watched.run.history);
        let done = history.last().map_or(0, |last| last.epoch);
        let trained: Vec<&Epoch> = history.iter().filter(|epoch| epoch.epoch > 0).collect();
        let mean = trained.iter().map(|epoch| epoch.seconds).sum::<f64>() / trained.len() as f64;
        let left = info.epochs.saturating_sub(done) as f64 * mean;
        let time = match Duration::try_from_secs_f64(left) {
            Ok(left) if done < info.epochs => {
                format!(", {mean:.1} s each, {} left", HumanDuration(left))
            }
            Ok(_) => format!(", {mean:.1} s each"),
            Err(_) => String::new(),
        };
        let ratio = match info.epochs {
            0 => 1.0,
            epochs => (done as f64 / epochs as f64).min(1.0),
        };
        LineGauge::default()
            .ratio(ratio)
            .label(format!("epoch {done} of {}{time}", info.epochs))
            .filled_symbol("█")
            .unfilled_symbol("░")
            .filled_style(Style::new().fg(Color::Green))
            .render(area, buffer);
    }

    /// Loss, accuracy and learning rate over epochs.
    fn curves(&self, area: Rect, buffer: &mut Buffer) {
        let history = &self.watched.run.history;
        let over = |value: fn(&Epoch) -> Option<f64>| -> Points {
            let points = history
                .iter()
                .filter_map(|epoch| Some((epoch.epoch as f64, value(epoch)?)));
            points.filter(|(_, value)| value.is_finite()).collect()
        };
        // The loss before the first step can be as large as it likes, and nobody looks at it later.
        let begun = history.last().is_some_and(|last| last.epoch > 0);
        let (mut loss, accuracy) = (
            [
                over(|epoch| epoch.train_loss.map(f64::from)),
                over(|epoch| Some(epoch.test_loss.into())),
            ],
            [
                over(|epoch| epoch.train_accuracy.map(|accuracy| 100.0 * accuracy)),
                over(|epoch| Some(100.0 * epoch.test_accuracy)),
            ],
        );
        let rate = over(|epoch| (epoch.learning_rate > 0.0).then(|| epoch.learning_rate.log10()));
        // Where there is no room for the rate the others have its place.
        let third = u16::from(area.width >= 5 * SMALLEST.0);
        let columns = Layout::horizontal([
            Constraint::Fill(2),
            Constraint::Fill(2),
            Constraint::Fill(third),
        ]);
        let [first, second, third] = columns.areas(area);
        let epochs = self.watched.run.info.epochs;
        if begun {
            for points in &mut loss {
                points.retain(|(epoch, _)| *epoch > 0.0);
            }
        }
        let (loss, scale) = with_scale(loss);
        Curves::of_splits("loss", epochs, &loss, scale).render(first, buffer);
        let scale = Scale::linear(values(&accuracy));
        Curves::of_splits("accuracy, %", epochs, &accuracy, scale).render(second, buffer);
        let scale = Scale::powers(rate.iter().map(|(_, exponent)| *exponent));
        let title = match history.last() {
            Some(last) => format!("rate {}", last.learning_rate),
            None => "rate".into(),
        };
        Curves::one(title, epochs, &rate, scale).render(third, buffer);
    }

    /// Cosine and ratio of every block, side by side or, where they are many, one above the other.
    fn bars(&self, area: Rect, buffer: &mut Buffer) {
        let blocks = self.watched.blocks();
        if blocks.is_empty() {
            let text = "No blocks are recorded: that is what `ir train --measure-every` does.";
            return Paragraph::new(text)
                .wrap(Wrap::default())
                .render(area, buffer);
        }
        let halves = [Constraint::Fill(1), Constraint::Fill(1)];
        let narrow = usize::from(area.width) < 2 * (blocks.len() + 12);
        let layout = match narrow && area.height >= 16 {
            true => Layout::vertical(halves),
            false => Layout::horizontal(halves),
        };
        let [first, second] = layout.areas(area);
        let epoch = self.watched.shown_epoch().unwrap_or_default();
        let of = format!("{}, epoch {epoch}", self.watched.split);
        let values = |value: fn(&BlockRow) -> Option<f64>| -> Vec<(bool, Option<f64>)> {
            let blocks = blocks.iter();
            blocks.map(|row| (row.transition, value(row))).collect()
        };
        let (cosine, ratio) = (values(|row| row.cosine), values(|row| row.l2_ratio));
        Bars::new(format!("cos∠(F, ∂L/∂h) {of}"), &cosine).render(first, buffer);
        Bars::new(format!("‖F‖/‖h‖ {of}"), &ratio).render(second, buffer);
    }

    fn foot(&self) -> Line<'static> {
        match &self.watched.trouble {
            Some(trouble) => Line::from(trouble.clone().red()),
            None => {
                let key = |key: &'static str, does: &'static str| {
                    [Span::from(key).bold(), Span::from(does)]
                };
                let keys = [
                    key("q", " quit  "),
                    key("t", " other split  "),
                    key("← →", " epoch  "),
                    key("Home End", " first, last"),
                ];
                Line::from(keys.concat())
            }
        }
    }
}

fn values(splits: &[Points; 2]) -> impl Iterator<Item = f64> {
    splits.iter().flatten().map(|(_, value)| *value)
}

/// Losses as they are; their logarithms where a few of them are so large that the others would lie
/// on the ground.
fn with_scale(losses: [Points; 2]) -> ([Points; 2], Scale) {
    let lowest = values(&losses).fold(f64::INFINITY, f64::min);
    let highest = values(&losses).fold(0.0, f64::max);
    if lowest <= 0.0 || highest <= 100.0 * lowest {
        let scale = Scale::linear(values(&losses));
        return (losses, scale);
    }
    let powers = losses.map(|points| {
        let points = points.into_iter();
        points.map(|(epoch, loss)| (epoch, loss.log10())).collect()
    });
    let scale = Scale::powers(values(&powers));
    (powers, scale)
}
