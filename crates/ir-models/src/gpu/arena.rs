//! Where each tensor of a network lies on a GPU: all parameters in one row, all running statistics in two.

use candle_core::{Device, Tensor};

use crate::error::Result;
use crate::layout::{Kind, Layout, TensorSpec};
use crate::optimizer::Sgd;

/// Channels are padded with zeros to a multiple of this, as those of the maps are.
pub(super) const GROUP: usize = 16;

/// Where one tensor lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    /// Its first number in its row: parameters, running means or running variances.
    pub(super) start: usize,
    /// Its numbers, with padding.
    pub(super) length: usize,
}

/// Where all tensors lie, by their index in the layout.
#[derive(Debug, Clone)]
pub(super) struct Arena {
    pub(super) slots: Vec<Slot>,
    /// Numbers of the row of parameters.
    pub(super) parameters: usize,
    /// How many of them decay: the first ones.
    pub(super) decayed: usize,
    /// Numbers of each row of running statistics.
    pub(super) running: usize,
}

impl Arena {
    /// The parameters that decay come first, each tensor on a boundary of 16 numbers.
    pub(super) fn new(layout: &Layout, sgd: &Sgd) -> Self {
        let mut arena = Self {
            slots: vec![
                Slot {
                    start: 0,
                    length: 0
                };
                layout.specs.len()
            ],
            parameters: 0,
            decayed: 0,
            running: 0,
        };
        for decays in [true, false] {
            for (slot, spec) in arena.slots.iter_mut().zip(&layout.specs) {
                if spec.kind.is_trainable() && sgd.decays(spec.kind) == decays {
                    *slot = place(spec, &mut arena.parameters);
                }
            }
            if decays {
                arena.decayed = arena.parameters;
            }
        }
        for kind in [Kind::RunningMean, Kind::RunningVariance] {
            let mut next = 0;
            for (slot, spec) in arena.slots.iter_mut().zip(&layout.specs) {
                if spec.kind == kind {
                    *slot = place(spec, &mut next);
                }
            }
            arena.running = next;
        }
        arena
    }
}

fn place(spec: &TensorSpec, next: &mut usize) -> Slot {
    let slot = Slot {
        start: *next,
        length: length(spec),
    };
    *next += slot.length.next_multiple_of(GROUP);
    slot
}

/// Numbers of a tensor on the device.
fn length(spec: &TensorSpec) -> usize {
    match (spec.kind, &*spec.shape) {
        (Kind::ConvolutionWeight, &[outputs, inputs, height, width]) => {
            padded(outputs) * height * width * padded(inputs)
        }
        (Kind::LinearWeight | Kind::LinearBias, shape) => shape.iter().product(),
        (_, shape) => padded(shape.iter().product()),
    }
}

fn padded(channels: usize) -> usize {
    channels.next_multiple_of(GROUP)
}

/// The place on the device of each number of a tensor, in the tensor's order. A convolution's weight `[O, I, K, K]` is
/// `[O][K][K][I]` there, with padding.
fn places(spec: &TensorSpec) -> Box<dyn Iterator<Item = usize>> {
    match (spec.kind, &*spec.shape) {
        (Kind::ConvolutionWeight, &[outputs, inputs, height, width]) => {
            let taps = height * width;
            Box::new((0..outputs * inputs * taps).map(move |index| {
                let (output, input, tap) =
                    (index / taps / inputs, index / taps % inputs, index % taps);
                (output * taps + tap) * padded(inputs) + input
            }))
        }
        (_, shape) => Box::new(0..shape.iter().product()),
    }
}

/// Writes a tensor's numbers to where they lie on the device, in a row of the host.
pub(super) fn pack(spec: &TensorSpec, slot: Slot, tensor: &Tensor, row: &mut [f32]) -> Result<()> {
    let to = &mut row[slot.start..][..slot.length];
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    for (place, value) in places(spec).zip(values) {
        to[place] = value;
    }
    Ok(())
}

/// The tensor, from where its numbers lie in a row of the host.
pub(super) fn unpack(spec: &TensorSpec, slot: Slot, row: &[f32]) -> Result<Tensor> {
    let from = &row[slot.start..][..slot.length];
    let values: Vec<f32> = places(spec).map(|place| from[place]).collect();
    Ok(Tensor::from_vec(values, spec.shape.clone(), &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Architecture, WeightDecayCovers};

    #[test]
    fn every_tensor_comes_back_from_a_place_of_its_own() {
        let architecture = Architecture::named("resnet-38-ubn", 10).unwrap();
        let layout = Layout::new(&architecture);
        let arena = Arena::new(&layout, &Sgd::default());
        let mut rows = [
            vec![0f32; arena.parameters],
            vec![0f32; arena.running],
            vec![0f32; arena.running],
        ];
        let row = |kind| match kind {
            Kind::RunningMean => 1,
            Kind::RunningVariance => 2,
            _ => 0,
        };
        let tensors: Vec<Tensor> = layout
            .specs
            .iter()
            .map(|spec| Tensor::rand(1f32, 2., spec.shape.clone(), &Device::Cpu).unwrap())
            .collect();
        for ((spec, &slot), tensor) in layout.specs.iter().zip(&arena.slots).zip(&tensors) {
            let row = &mut rows[row(spec.kind)];
            assert!(
                row[slot.start..][..slot.length]
                    .iter()
                    .all(|&number| number == 0.0)
            );
            pack(spec, slot, tensor, row).unwrap();
        }
        let mut filled = 0;
        for ((spec, &slot), tensor) in layout.specs.iter().zip(&arena.slots).zip(&tensors) {
            let back = unpack(spec, slot, &rows[row(spec.kind)]).unwrap();
            let [back, there] =
                [&back, tensor].map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap());
            assert_eq!(back, there, "{}", spec.name);
            filled += there.len();
        }
        // What is not a tensor's is padding, and zero.
        let numbers = rows.iter().flatten().filter(|&&number| number != 0.0);
        assert_eq!(numbers.count(), filled);
    }

    #[test]
    fn what_decays_comes_first() {
        let layout = Layout::new(&Architecture::named("resnet-32", 10).unwrap());
        let arena = Arena::new(&layout, &Sgd::default());
        for (spec, slot) in layout.specs.iter().zip(&arena.slots) {
            if spec.kind.is_trainable() {
                let decays = matches!(spec.kind, Kind::ConvolutionWeight | Kind::LinearWeight);
                assert_eq!(slot.start < arena.decayed, decays, "{}", spec.name);
            }
        }
        let everything = Sgd {
            weight_decay_covers: WeightDecayCovers::Everything,
            ..Sgd::default()
        };
        let arena = Arena::new(&layout, &everything);
        assert_eq!(arena.decayed, arena.parameters);
    }
}
