//! The fast way through a network gives the bits of its parts in turn.

use candle_core::{DType, Device, Tensor};
use ir_models::{Architecture, ResNet, ResidualNetwork};

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

fn bits(tensor: &Tensor) -> candle_core::Result<Vec<u32>> {
    let numbers = tensor.flatten_all()?.to_vec1::<f32>()?;
    Ok(numbers.into_iter().map(f32::to_bits).collect())
}

/// With transitions, shared blocks, pooled ones, and channels that fill no vector.
#[test]
fn logits_have_the_bits_of_the_parts_in_turn() -> Result {
    let size = 32;
    for name in ["resnet-32", "resnet-110-ubn", "avg-pooling"] {
        let architecture = Architecture::named(name, 10)?;
        let network = ResNet::initialize(&architecture, 3)?;
        let count = 2 * 3 * size * size;
        let images = Tensor::arange(0u32, count as u32, &Device::Cpu)?
            .to_dtype(DType::F32)?
            .affine(0.01, 0.)?
            .sin()?
            .reshape((2, 3, size, size))?;
        let expected = bits(&network.logits(&images)?)?;
        let mut h = network.stem(&images)?;
        for block in 0..network.blocks().len() {
            assert_eq!(
                bits(&network.logits_from(block, &h)?)?,
                expected,
                "{name}, {block}"
            );
            h = network.step(block, &h)?;
        }
        assert_eq!(bits(&network.head(&h)?)?, expected, "{name}");
        let from_last = network.logits_from(network.blocks().len(), &h)?;
        assert_eq!(bits(&from_last)?, expected, "{name}");
    }
    Ok(())
}
