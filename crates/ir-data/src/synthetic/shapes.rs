//! Ten shapes, as the set of points inside them.
//!
//! Coordinates are x to the right and y down, the shape fills about −1 … 1 in both. Only
//! operations that IEEE 754 rounds exactly are used (no sine, no exponential), so a picture
//! is the same bytes on every machine.

/// A shape's name and whether a point is inside.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) contains: fn(f64, f64) -> bool,
}

/// All shapes, in label order.
pub(crate) const SHAPES: [Shape; 10] = [
    Shape {
        name: "disc",
        contains: disc,
    },
    Shape {
        name: "ring",
        contains: ring,
    },
    Shape {
        name: "crescent",
        contains: crescent,
    },
    Shape {
        name: "heart",
        contains: heart,
    },
    Shape {
        name: "square",
        contains: square,
    },
    Shape {
        name: "triangle",
        contains: triangle,
    },
    Shape {
        name: "cross",
        contains: cross,
    },
    Shape {
        name: "star",
        contains: star,
    },
    Shape {
        name: "arrow",
        contains: arrow,
    },
    Shape {
        name: "hourglass",
        contains: hourglass,
    },
];

fn disc(x: f64, y: f64) -> bool {
    x * x + y * y < 0.9
}

fn ring(x: f64, y: f64) -> bool {
    let squared = x * x + y * y;
    squared < 1.0 && squared > 0.3
}

/// A disc without a smaller one that is shifted to the right.
fn crescent(x: f64, y: f64) -> bool {
    let cut = (x - 0.55) * (x - 0.55) + y * y;
    x * x + y * y < 1.0 && cut > 0.64
}

/// (x² + y² − 1)³ < x² y³, scaled to the unit square, its point downwards.
fn heart(x: f64, y: f64) -> bool {
    let (x, y) = (1.15 * x, -1.15 * y + 0.1);
    let body = x * x + y * y - 1.0;
    body * body * body < x * x * y * y * y
}

fn square(x: f64, y: f64) -> bool {
    x.abs() < 0.8 && y.abs() < 0.8
}

fn triangle(x: f64, y: f64) -> bool {
    inside(&[(0.0, -1.0), (0.95, 0.75), (-0.95, 0.75)], x, y)
}

fn cross(x: f64, y: f64) -> bool {
    let (x, y) = (x.abs(), y.abs());
    x.max(y) < 0.95 && x.min(y) < 0.3
}

/// Five points, one of them upwards.
fn star(x: f64, y: f64) -> bool {
    const POINTS: [(f64, f64); 10] = [
        (0.0, -1.05),
        (0.247, -0.34),
        (0.999, -0.324),
        (0.399, 0.13),
        (0.617, 0.849),
        (0.0, 0.42),
        (-0.617, 0.849),
        (-0.399, 0.13),
        (-0.999, -0.324),
        (-0.247, -0.34),
    ];
    inside(&POINTS, x, y)
}

/// Pointing to the right.
fn arrow(x: f64, y: f64) -> bool {
    let head = x > 0.0 && y.abs() < 0.85 * (1.0 - x);
    let shaft = x > -1.0 && x <= 0.0 && y.abs() < 0.3;
    head || shaft
}

fn hourglass(x: f64, y: f64) -> bool {
    y.abs() < 0.95 && x.abs() < 0.12 + 0.75 * y.abs()
}

/// Whether a point is inside a polygon: a ray to the right crosses an odd number of edges.
fn inside(polygon: &[(f64, f64)], x: f64, y: f64) -> bool {
    let next = polygon.iter().cycle().skip(1);
    let crossings = polygon.iter().zip(next).filter(|&(&(x0, y0), &(x1, y1))| {
        (y0 > y) != (y1 > y) && x < x0 + (y - y0) * (x1 - x0) / (y1 - y0)
    });
    crossings.count() % 2 == 1
}
