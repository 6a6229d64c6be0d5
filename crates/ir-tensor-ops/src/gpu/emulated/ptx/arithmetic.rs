//! What instructions compute, for each thread by itself.

use std::cmp::Ordering;

use super::Lanes;

/// A result from up to four operands.
pub(super) type Function = fn([&Lanes; 4]) -> Lanes;

/// A function of the operands' bits, or of what they stand for: `|a: f32, b: f32| a + b`.
macro_rules! each {
    (|$($name:ident: $kind:ty),+| $result:expr) => {
        |operands: [&Lanes; 4]| {
            std::array::from_fn(|lane| {
                let mut operands = operands.iter();
                $(let $name = <$kind as Bits>::of(operands.next().map_or(0, |lanes| lanes[lane]));)+
                Bits::bits($result)
            })
        }
    };
}

/// What a register's bits stand for.
trait Bits {
    fn of(bits: u64) -> Self;
    fn bits(self) -> u64;
}

impl Bits for u64 {
    fn of(bits: u64) -> Self {
        bits
    }
    fn bits(self) -> u64 {
        self
    }
}

impl Bits for i64 {
    fn of(bits: u64) -> Self {
        bits as i64
    }
    fn bits(self) -> u64 {
        self as u64
    }
}

impl Bits for u32 {
    fn of(bits: u64) -> Self {
        bits as u32
    }
    fn bits(self) -> u64 {
        u64::from(self)
    }
}

impl Bits for i32 {
    fn of(bits: u64) -> Self {
        bits as i32
    }
    fn bits(self) -> u64 {
        u64::from(self as u32)
    }
}

impl Bits for u16 {
    fn of(bits: u64) -> Self {
        bits as u16
    }
    fn bits(self) -> u64 {
        u64::from(self)
    }
}

impl Bits for f32 {
    fn of(bits: u64) -> Self {
        Self::from_bits(bits as u32)
    }
    fn bits(self) -> u64 {
        u64::from(self.to_bits())
    }
}

impl Bits for f64 {
    fn of(bits: u64) -> Self {
        Self::from_bits(bits)
    }
    fn bits(self) -> u64 {
        self.to_bits()
    }
}

/// A predicate.
impl Bits for bool {
    fn of(bits: u64) -> Self {
        bits & 1 == 1
    }
    fn bits(self) -> u64 {
        u64::from(self)
    }
}

/// What an instruction computes; `None` if it is not known.
pub(super) fn function(mnemonic: &str) -> Option<Function> {
    integers(mnemonic)
        .or_else(|| bits(mnemonic))
        .or_else(|| numbers(mnemonic))
        .or_else(|| conversions(mnemonic))
        .or_else(|| comparison(mnemonic))
}

/// What a division by zero gives is not defined.
const UNDEFINED: u64 = u64::MAX;

fn integers(mnemonic: &str) -> Option<Function> {
    Some(match mnemonic {
        "add.s32" | "add.u32" => each!(|a: u32, b: u32| a.wrapping_add(b)),
        "sub.s32" | "sub.u32" => each!(|a: u32, b: u32| a.wrapping_sub(b)),
        "mul.lo.s32" | "mul.lo.u32" => each!(|a: u32, b: u32| a.wrapping_mul(b)),
        "mad.lo.s32" | "mad.lo.u32" => {
            each!(|a: u32, b: u32, c: u32| a.wrapping_mul(b).wrapping_add(c))
        }
        "mul.hi.u32" => each!(|a: u32, b: u32| ((u64::from(a) * u64::from(b)) >> 32) as u32),
        "mul.hi.s32" => each!(|a: i32, b: i32| ((i64::from(a) * i64::from(b)) >> 32) as i32),
        "mul.wide.s32" => each!(|a: i32, b: i32| i64::from(a) * i64::from(b)),
        "mul.wide.u32" => each!(|a: u32, b: u32| u64::from(a) * u64::from(b)),
        "div.s32" => each!(|a: i32, b: i32| a.checked_div(b).unwrap_or(UNDEFINED as i32)),
        "div.u32" => each!(|a: u32, b: u32| a.checked_div(b).unwrap_or(UNDEFINED as u32)),
        "rem.s32" => each!(|a: i32, b: i32| a.checked_rem(b).unwrap_or(UNDEFINED as i32)),
        "rem.u32" => each!(|a: u32, b: u32| a.checked_rem(b).unwrap_or(UNDEFINED as u32)),
        "min.s32" => each!(|a: i32, b: i32| a.min(b)),
        "max.s32" => each!(|a: i32, b: i32| a.max(b)),
        "min.u32" => each!(|a: u32, b: u32| a.min(b)),
        "max.u32" => each!(|a: u32, b: u32| a.max(b)),
        "neg.s32" => each!(|a: i32| a.wrapping_neg()),
        "add.s16" | "add.u16" => each!(|a: u16, b: u16| a.wrapping_add(b)),
        "sub.s16" | "sub.u16" => each!(|a: u16, b: u16| a.wrapping_sub(b)),
        "mul.lo.s16" | "mul.lo.u16" => each!(|a: u16, b: u16| a.wrapping_mul(b)),
        "mul.wide.u16" => each!(|a: u16, b: u16| u32::from(a) * u32::from(b)),
        "add.s64" | "add.u64" => each!(|a: u64, b: u64| a.wrapping_add(b)),
        "sub.s64" | "sub.u64" => each!(|a: u64, b: u64| a.wrapping_sub(b)),
        "mul.lo.s64" | "mul.lo.u64" => each!(|a: u64, b: u64| a.wrapping_mul(b)),
        "mad.lo.s64" => each!(|a: u64, b: u64, c: u64| a.wrapping_mul(b).wrapping_add(c)),
        "div.s64" => each!(|a: i64, b: i64| a.checked_div(b).unwrap_or(UNDEFINED as i64)),
        "div.u64" => each!(|a: u64, b: u64| a.checked_div(b).unwrap_or(UNDEFINED)),
        "rem.s64" => each!(|a: i64, b: i64| a.checked_rem(b).unwrap_or(UNDEFINED as i64)),
        "rem.u64" => each!(|a: u64, b: u64| a.checked_rem(b).unwrap_or(UNDEFINED)),
        _ => return None,
    })
}

fn bits(mnemonic: &str) -> Option<Function> {
    Some(match mnemonic {
        "mov.b16" | "mov.u16" => each!(|a: u16| a),
        "mov.b32" | "mov.u32" | "mov.f32" => each!(|a: u32| a),
        "mov.b64" | "mov.u64" | "mov.f64" | "cvta.to.global.u64" => each!(|a: u64| a),
        "mov.pred" => each!(|a: bool| a),
        "and.b16" | "and.b32" | "and.b64" | "and.pred" => each!(|a: u64, b: u64| a & b),
        "or.b16" | "or.b32" | "or.b64" | "or.pred" => each!(|a: u64, b: u64| a | b),
        "xor.b16" | "xor.b32" => each!(|a: u32, b: u32| a ^ b),
        "xor.b64" | "xor.pred" => each!(|a: u64, b: u64| a ^ b),
        "not.b16" => each!(|a: u16| !a),
        "not.b32" => each!(|a: u32| !a),
        "not.b64" => each!(|a: u64| !a),
        "not.pred" => each!(|a: bool| !a),
        // Further than there are bits leaves nothing but the sign.
        "shl.b16" => each!(|a: u16, by: u32| a.checked_shl(by).unwrap_or(0)),
        "shl.b32" => each!(|a: u32, by: u32| a.checked_shl(by).unwrap_or(0)),
        "shl.b64" => each!(|a: u64, by: u32| a.checked_shl(by).unwrap_or(0)),
        "shr.u16" => each!(|a: u16, by: u32| a.checked_shr(by).unwrap_or(0)),
        "shr.u32" | "shr.b32" => each!(|a: u32, by: u32| a.checked_shr(by).unwrap_or(0)),
        "shr.u64" | "shr.b64" => each!(|a: u64, by: u32| a.checked_shr(by).unwrap_or(0)),
        "shr.s32" => each!(|a: i32, by: u32| a >> by.min(31)),
        "shr.s64" => each!(|a: i64, by: u32| a >> by.min(63)),
        // The lowest `count` bits of a in place of those of b from `from` on.
        "bfi.b32" => each!(|a: u32, b: u32, from: u32, count: u32| {
            let ones = u32::MAX.checked_shr(32 - count.min(32)).unwrap_or(0);
            let place = |bits: u32| bits.checked_shl(from).unwrap_or(0);
            (b & !place(ones)) | place(a & ones)
        }),
        "selp.b16" | "selp.u16" | "selp.s16" => {
            each!(|a: u16, b: u16, which: bool| if which { a } else { b })
        }
        "selp.b32" | "selp.u32" | "selp.s32" | "selp.f32" => {
            each!(|a: u32, b: u32, which: bool| if which { a } else { b })
        }
        "selp.b64" | "selp.u64" | "selp.s64" | "selp.f64" => {
            each!(|a: u64, b: u64, which: bool| if which { a } else { b })
        }
        _ => return None,
    })
}

fn numbers(mnemonic: &str) -> Option<Function> {
    Some(match mnemonic {
        "add.f32" | "add.rn.f32" => each!(|a: f32, b: f32| a + b),
        "sub.f32" | "sub.rn.f32" => each!(|a: f32, b: f32| a - b),
        "mul.f32" | "mul.rn.f32" => each!(|a: f32, b: f32| a * b),
        "fma.rn.f32" => each!(|a: f32, b: f32, c: f32| a.mul_add(b, c)),
        "div.rn.f32" => each!(|a: f32, b: f32| a / b),
        "rcp.rn.f32" => each!(|a: f32| 1. / a),
        "sqrt.rn.f32" => each!(|a: f32| a.sqrt()),
        "neg.f32" => each!(|a: f32| -a),
        "abs.f32" => each!(|a: f32| a.abs()),
        // Of a number and NaN, the number.
        "max.f32" => each!(|a: f32, b: f32| a.max(b)),
        "min.f32" => each!(|a: f32, b: f32| a.min(b)),
        "max.NaN.f32" => each!(|a: f32, b: f32| {
            if a.is_nan() || b.is_nan() {
                f32::NAN
            } else {
                a.max(b)
            }
        }),
        "add.f64" | "add.rn.f64" => each!(|a: f64, b: f64| a + b),
        "sub.f64" | "sub.rn.f64" => each!(|a: f64, b: f64| a - b),
        "mul.f64" | "mul.rn.f64" => each!(|a: f64, b: f64| a * b),
        "fma.rn.f64" => each!(|a: f64, b: f64, c: f64| a.mul_add(b, c)),
        "div.rn.f64" => each!(|a: f64, b: f64| a / b),
        "rcp.rn.f64" => each!(|a: f64| 1. / a),
        // No more than its upper half is promised.
        "rcp.approx.ftz.f64" => each!(|a: f64| (1. / a).to_bits() >> 32 << 32),
        "sqrt.rn.f64" => each!(|a: f64| a.sqrt()),
        "neg.f64" => each!(|a: f64| -a),
        "abs.f64" => each!(|a: f64| a.abs()),
        "max.f64" => each!(|a: f64, b: f64| a.max(b)),
        "min.f64" => each!(|a: f64, b: f64| a.min(b)),
        _ => return None,
    })
}

/// Two numbers as bfloat16, the first in the upper half.
fn pair(numbers: [f32; 2]) -> u32 {
    let [upper, lower] = numbers.map(|number| u32::from(half::bf16::from_f32(number).to_bits()));
    upper << 16 | lower
}

fn conversions(mnemonic: &str) -> Option<Function> {
    Some(match mnemonic {
        "cvt.s64.s32" => each!(|a: i32| i64::from(a)),
        "cvt.u64.u32" | "cvt.u32.u64" | "cvt.u32.s64" => each!(|a: u32| a),
        "cvt.u32.u16" | "cvt.u16.u32" => each!(|a: u16| a),
        "cvt.f64.f32" => each!(|a: f32| f64::from(a)),
        "cvt.rn.f32.f64" => each!(|a: f64| a as f32),
        "cvt.rn.f32.s32" => each!(|a: i32| a as f32),
        "cvt.rn.f32.u32" => each!(|a: u32| a as f32),
        "cvt.rn.f64.s32" => each!(|a: i32| f64::from(a)),
        "cvt.rn.f64.u32" => each!(|a: u32| f64::from(a)),
        "cvt.rn.bf16.f32" => each!(|a: f32| half::bf16::from_f32(a).to_bits()),
        // The first operand is the upper half.
        "cvt.rn.bf16x2.f32" => each!(|a: f32, b: f32| pair([a, b])),
        // NaN has one form behind it.
        "cvt.rn.relu.bf16x2.f32" => each!(|a: f32, b: f32| {
            pair([a, b].map(|number| {
                if number.is_nan() {
                    f32::NAN
                } else {
                    number.max(0.)
                }
            }))
        }),
        _ => return None,
    })
}

/// Comparisons; those that end in `u` are true of NaN.
macro_rules! compare {
    ($kind:ty, $operator:expr) => {
        match $operator {
            "eq" => Some(each!(|a: $kind, b: $kind| a == b)),
            "ne" => Some(each!(|a: $kind, b: $kind| a
                .partial_cmp(&b)
                .is_some_and(Ordering::is_ne))),
            "lt" => Some(each!(|a: $kind, b: $kind| a < b)),
            "le" => Some(each!(|a: $kind, b: $kind| a <= b)),
            "gt" => Some(each!(|a: $kind, b: $kind| a > b)),
            "ge" => Some(each!(|a: $kind, b: $kind| a >= b)),
            "equ" => Some(each!(|a: $kind, b: $kind| a
                .partial_cmp(&b)
                .is_none_or(Ordering::is_eq))),
            "neu" => Some(each!(|a: $kind, b: $kind| a != b)),
            "ltu" => Some(each!(|a: $kind, b: $kind| a
                .partial_cmp(&b)
                .is_none_or(Ordering::is_lt))),
            "leu" => Some(each!(|a: $kind, b: $kind| a
                .partial_cmp(&b)
                .is_none_or(Ordering::is_le))),
            "gtu" => Some(each!(|a: $kind, b: $kind| a
                .partial_cmp(&b)
                .is_none_or(Ordering::is_gt))),
            "geu" => Some(each!(|a: $kind, b: $kind| a
                .partial_cmp(&b)
                .is_none_or(Ordering::is_ge))),
            _ => None,
        }
    };
}

fn comparison(mnemonic: &str) -> Option<Function> {
    let (operator, kind) = mnemonic.strip_prefix("setp.")?.split_once('.')?;
    match kind {
        "u16" | "b16" => compare!(u16, operator),
        // Others are not needed, nor known.
        "s16" if matches!(operator, "eq" | "ne") => compare!(u16, operator),
        "u32" | "b32" => compare!(u32, operator),
        "s32" => compare!(i32, operator),
        "u64" | "b64" => compare!(u64, operator),
        "s64" => compare!(i64, operator),
        "f32" => compare!(f32, operator),
        "f64" => compare!(f64, operator),
        _ => None,
    }
}
