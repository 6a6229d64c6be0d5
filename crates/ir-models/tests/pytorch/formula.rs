//! Weights and images by the formula of `formula.py`, bit for bit.

/// The 64-bit FNV-1a hash.
fn fnv1a64(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    })
}

fn splitmix64(state: u64) -> u64 {
    let z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Values in [-1, 1), multiples of 2⁻²³.
pub(crate) fn uniform(seed: u64, name: &str, count: usize) -> impl Iterator<Item = f32> + use<> {
    let start = fnv1a64(&format!("{seed}/{name}"));
    (0..count as u64).map(move |i| {
        let top = (splitmix64(start.wrapping_add(i)) >> 40) as i32 - (1 << 23);
        top as f32 * 2f32.powi(-23)
    })
}

/// The power of two nearest to √(6 / fan_in): 2⁻ᵉ with the smallest e such that
/// fan_in ≤ 12 · 4ᵉ.
pub(crate) fn weight_scale(shape: &[usize]) -> f32 {
    let fan_in: usize = shape[1..].iter().product();
    let exponent = (0..).find(|&e| fan_in <= 12 * 4usize.pow(e)).unwrap();
    2f32.powi(-(exponent as i32))
}

/// One tensor of a checkpoint, its scale chosen by what the name says it is.
pub(crate) fn parameter(
    seed: u64,
    name: &str,
    shape: &[usize],
    classifier_damping: f32,
) -> Vec<f32> {
    let mut parts = name.rsplit('.');
    let (kind, layer) = (parts.next().unwrap(), parts.next().unwrap());
    let (offset, scale) = match (layer.starts_with("bn"), kind) {
        (true, "weight") => (1.0, 0.25),
        (true, "running_var") => (1.0, 0.5),
        (true, _) | (false, "bias") => (0.0, 0.125),
        (false, _) if layer == "conv2" => (0.0, weight_scale(shape) * 0.25),
        (false, _) if layer == "fc" => (0.0, weight_scale(shape) * classifier_damping),
        (false, _) => (0.0, weight_scale(shape)),
    };
    let values = uniform(seed, name, shape.iter().product());
    values.map(|value| offset + value * scale).collect()
}

/// Normalised images `[count, 3, side, side]`, uniform in [-2, 2).
pub(crate) fn images(seed: u64, name: &str, count: usize, side: usize) -> Vec<f32> {
    uniform(seed, name, count * 3 * side * side)
        .map(|value| value * 2.0)
        .collect()
}
