//! Ten textures, as the share of the second of two colours at a point.
//!
//! Coordinates are in periods of the texture, in the frame of the shape that it fills; the
//! texture's phase has been added to them, so they are never negative. As with the shapes,
//! only exactly rounded operations are used.

/// A texture's name and the share of the second colour, 0 to 1.
pub(crate) struct Texture {
    pub(crate) name: &'static str,
    pub(crate) share: fn(f64, f64) -> f64,
}

/// All textures, in label order.
pub(crate) const TEXTURES: [Texture; 10] = [
    Texture {
        name: "plain",
        share: plain,
    },
    Texture {
        name: "rows",
        share: rows,
    },
    Texture {
        name: "columns",
        share: columns,
    },
    Texture {
        name: "diagonals",
        share: diagonals,
    },
    Texture {
        name: "checkers",
        share: checkers,
    },
    Texture {
        name: "dots",
        share: dots,
    },
    Texture {
        name: "grid",
        share: grid,
    },
    Texture {
        name: "waves",
        share: waves,
    },
    Texture {
        name: "gradient",
        share: gradient,
    },
    Texture {
        name: "speckles",
        share: speckles,
    },
];

fn plain(_: f64, _: f64) -> f64 {
    0.0
}

fn rows(_: f64, y: f64) -> f64 {
    half(y)
}

fn columns(x: f64, _: f64) -> f64 {
    half(x)
}

fn diagonals(x: f64, y: f64) -> f64 {
    half(0.71 * (x + y))
}

fn checkers(x: f64, y: f64) -> f64 {
    let (x, y) = (half(0.7 * x), half(0.7 * y));
    (x - y).abs()
}

fn dots(x: f64, y: f64) -> f64 {
    let (x, y) = (x.fract() - 0.5, y.fract() - 0.5);
    step(x * x + y * y < 0.1)
}

fn grid(x: f64, y: f64) -> f64 {
    step(x.fract() < 0.3 || y.fract() < 0.3)
}

/// Rows that bend: parabolas in place of sine waves.
fn waves(x: f64, y: f64) -> f64 {
    let phase = (0.5 * x).fract();
    let bend = 4.0 * (phase - 0.5) * (phase - 0.5);
    half(y + bend)
}

/// From the first colour on the left to the second on the right, over four periods.
fn gradient(x: f64, _: f64) -> f64 {
    (0.25 * x).fract()
}

/// A third of the cells of a fine lattice, which ones by a hash of their position.
fn speckles(x: f64, y: f64) -> f64 {
    let (column, row) = ((2.0 * x) as u32, (2.0 * y) as u32);
    let mut hash = column
        .wrapping_mul(0x9E37_79B1)
        .wrapping_add(row.wrapping_mul(0x85EB_CA77));
    hash ^= hash >> 15;
    hash = hash.wrapping_mul(0x2C1B_3C6D);
    hash ^= hash >> 13;
    step(hash.is_multiple_of(3))
}

/// 1 in the second half of every period.
fn half(position: f64) -> f64 {
    step(position.fract() >= 0.5)
}

fn step(condition: bool) -> f64 {
    if condition { 1.0 } else { 0.0 }
}
