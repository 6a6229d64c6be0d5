//! Draws one image: a background, clutter, the textured shape, more clutter, noise.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::shapes::Shape;
use super::textures::Texture;
use crate::dataset::{PLANE, SIDE};

/// Points per pixel and direction that are averaged.
const OVERSAMPLING: usize = 3;
/// Points of the background's random lattice in each direction.
const LATTICE: usize = 5;

type Colour = [f64; 3];

/// Draws the shape with the texture into `planes`, `[3, 32, 32]`; everything else is random.
pub(crate) fn paint(shape: &Shape, texture: &Texture, random: &mut ChaCha8Rng, planes: &mut [u8]) {
    let scene = Scene::random(shape, texture, random);
    for pixel in 0..PLANE {
        let (row, column) = (pixel / SIDE, pixel % SIDE);
        let mut sum = [0.0; 3];
        for sub in 0..OVERSAMPLING * OVERSAMPLING {
            let offset = |index: usize| (index as f64 + 0.5) / OVERSAMPLING as f64;
            let x = column as f64 + offset(sub % OVERSAMPLING);
            let y = row as f64 + offset(sub / OVERSAMPLING);
            let colour = scene.colour(x, y);
            for (sum, value) in sum.iter_mut().zip(colour) {
                *sum += value;
            }
        }
        for (channel, sum) in sum.into_iter().enumerate() {
            let mean = sum / (OVERSAMPLING * OVERSAMPLING) as f64;
            let value = 255.0 * (mean + scene.noise * bell(random));
            // A cast from float to integer saturates.
            planes[channel * PLANE + pixel] = value.round() as u8;
        }
    }
}

/// Everything that determines an image but its noise.
struct Scene<'a> {
    lattice: [[Colour; LATTICE]; LATTICE],
    behind: Vec<Blot>,
    figure: Figure<'a>,
    before: Vec<Blot>,
    noise: f64,
}

impl<'a> Scene<'a> {
    fn random(shape: &'a Shape, texture: &'a Texture, random: &mut ChaCha8Rng) -> Self {
        let ground: Colour = random.random();
        let roughness = random.random_range(0.1..0.4);
        let mut lattice = [[ground; LATTICE]; LATTICE];
        for value in lattice.iter_mut().flatten().flatten() {
            *value = (*value + roughness * (random.random::<f64>() - 0.5)).clamp(0.0, 1.0);
        }
        let behind = random.random_range(1..5);
        let before = random.random_range(0..2);
        Self {
            lattice,
            behind: (0..behind).map(|_| Blot::random(3.5, random)).collect(),
            figure: Figure::random(shape, texture, ground, random),
            before: (0..before).map(|_| Blot::random(2.5, random)).collect(),
            noise: random.random_range(0.02..0.06),
        }
    }

    /// The colour at a point, in pixels from the upper left corner: the topmost thing there.
    fn colour(&self, x: f64, y: f64) -> Colour {
        let topmost = |blots: &[Blot]| blots.iter().find_map(|blot| blot.colour(x, y));
        topmost(&self.before)
            .or_else(|| self.figure.colour(x, y))
            .or_else(|| topmost(&self.behind))
            .unwrap_or_else(|| self.background(x, y))
    }

    /// Interpolates linearly between the four lattice points around.
    fn background(&self, x: f64, y: f64) -> Colour {
        let scale = (LATTICE - 1) as f64 / SIDE as f64;
        let (column, right) = split(x * scale);
        let (row, down) = split(y * scale);
        let (upper, lower) = (&self.lattice[row], &self.lattice[row + 1]);
        [0, 1, 2].map(|channel| {
            let above = mix(upper[column][channel], upper[column + 1][channel], right);
            let below = mix(lower[column][channel], lower[column + 1][channel], right);
            mix(above, below, down)
        })
    }
}

/// The shape with its place, size, slant and colours.
struct Figure<'a> {
    shape: &'a Shape,
    texture: &'a Texture,
    frame: Frame,
    /// Pixels in a period of the texture.
    period: f64,
    /// The texture's origin, in periods; large enough that no coordinate is negative.
    phase: (f64, f64),
    colours: [Colour; 2],
}

impl<'a> Figure<'a> {
    fn random(
        shape: &'a Shape,
        texture: &'a Texture,
        ground: Colour,
        random: &mut ChaCha8Rng,
    ) -> Self {
        let radius = random.random_range(9.0..14.0);
        // As far from the centre as leaves most of the shape inside.
        let play = 0.75 * (SIDE as f64 / 2.0 - 0.7 * radius);
        let first = far_from(&[ground], 0.5, random);
        let second = far_from(&[ground, first], 0.5, random);
        // Half way back, so that the figure differs more from the ground than in itself.
        let second = [0, 1, 2].map(|channel| mix(second[channel], first[channel], 0.4));
        Self {
            shape,
            texture,
            frame: Frame::random(radius, play, random),
            period: random.random_range(3.5..5.5),
            phase: (
                random.random_range(16.0..32.0),
                random.random_range(16.0..32.0),
            ),
            colours: [first, second],
        }
    }

    fn colour(&self, x: f64, y: f64) -> Option<Colour> {
        let (u, v) = self.frame.local(x, y);
        if !(self.shape.contains)(u / self.frame.width, v / self.frame.height) {
            return None;
        }
        let share = (self.texture.share)(
            u / self.period + self.phase.0,
            v / self.period + self.phase.1,
        );
        let [first, second] = &self.colours;
        Some([0, 1, 2].map(|channel| mix(first[channel], second[channel], share)))
    }
}

/// Clutter: an ellipse or a bar of one colour.
struct Blot {
    frame: Frame,
    round: bool,
    colour: Colour,
}

impl Blot {
    fn random(radius: f64, random: &mut ChaCha8Rng) -> Self {
        let mut frame = Frame::random(random.random_range(1.0..radius), 16.0, random);
        let round: bool = random.random();
        if !round {
            frame.width *= random.random_range(1.0..4.0);
            frame.height *= 0.6;
        }
        Self {
            frame,
            round,
            colour: random.random(),
        }
    }

    fn colour(&self, x: f64, y: f64) -> Option<Colour> {
        let (u, v) = self.frame.local(x, y);
        let (u, v) = (u / self.frame.width, v / self.frame.height);
        let inside = if self.round {
            u * u + v * v < 1.0
        } else {
            u.abs() < 1.0 && v.abs() < 1.0
        };
        inside.then_some(self.colour)
    }
}

/// A slanted frame of reference: centre, direction of its x axis, extent in both axes.
struct Frame {
    centre: (f64, f64),
    direction: (f64, f64),
    width: f64,
    height: f64,
}

impl Frame {
    /// Centre at most `play` pixels from the image's in each direction, slant up to 30°,
    /// extent `radius` within a sixth.
    fn random(radius: f64, play: f64, random: &mut ChaCha8Rng) -> Self {
        let centre = SIDE as f64 / 2.0;
        let stretch = random.random_range(0.85..1.18);
        // The direction of angle a from t = tan(a / 2), without a sine: |a| < 30°.
        let t: f64 = random.random_range(-0.268..0.268);
        let length = 1.0 + t * t;
        Self {
            centre: (
                centre + play * random.random_range(-1.0..1.0),
                centre + play * random.random_range(-1.0..1.0),
            ),
            direction: ((1.0 - t * t) / length, 2.0 * t / length),
            width: radius * stretch,
            height: radius / stretch,
        }
    }

    /// A point of the image in this frame, in pixels from its centre.
    fn local(&self, x: f64, y: f64) -> (f64, f64) {
        let (x, y) = (x - self.centre.0, y - self.centre.1);
        let (cos, sin) = self.direction;
        (cos * x + sin * y, cos * y - sin * x)
    }
}

/// A random colour at least `distance` away from all others, or the farthest of 64.
fn far_from(others: &[Colour], distance: f64, random: &mut ChaCha8Rng) -> Colour {
    let mut best = ([0.0; 3], -1.0);
    for _ in 0..64 {
        let colour: Colour = random.random();
        let nearest = others
            .iter()
            .map(|other| squared_distance(other, &colour))
            .fold(f64::INFINITY, f64::min);
        if nearest > best.1 {
            best = (colour, nearest);
        }
        if nearest >= distance * distance {
            break;
        }
    }
    best.0
}

fn squared_distance(a: &Colour, b: &Colour) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// A bell-shaped number of mean 0 and variance 1, without a logarithm: the sum of twelve
/// uniform ones.
fn bell(random: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0
}

fn mix(first: f64, second: f64, share: f64) -> f64 {
    first + share * (second - first)
}

/// A lattice coordinate's cell and the position within it.
fn split(position: f64) -> (usize, f64) {
    let cell = (position as usize).min(LATTICE - 2);
    (cell, position - cell as f64)
}
