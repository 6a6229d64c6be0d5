//! Cut gradients are found where they are, and nowhere else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../ir-models/tests/pytorch/mod.rs"]
mod pytorch;

use candle_core::{D, DType, Device, Result, Tensor};
use ir_analysis::{Error, GradientCheck, Part, check_gradients};
use ir_models::{Block, BlockBackward, BlockGradients, ResidualNetwork};
use pytorch::{CASES, Fixture};

/// How much of one function is hidden from Candle's record.
#[derive(Clone, Copy)]
struct Cut {
    part: Part,
    /// 1 is all of it.
    share: f64,
}

/// Two stages of two blocks on `[N, 8]` and `[N, 4]`, with sines, ReLUs and a softmax.
struct Small {
    dtype: DType,
    cut: Option<Cut>,
}

impl Small {
    fn weight(&self, seed: f32, rows: usize, columns: usize) -> Result<Tensor> {
        let numbers = Tensor::arange(0f32, (rows * columns) as f32, &Device::Cpu)?;
        let waves = numbers.affine(1.7, f64::from(seed))?.sin()?;
        waves.reshape((rows, columns))?.to_dtype(self.dtype)
    }

    /// y with a share of its gradient hidden, if it is that function's turn.
    fn hide(&self, part: Part, y: Tensor) -> Result<Tensor> {
        match self.cut {
            Some(cut) if cut.part == part => (&y * (1.0 - cut.share))? + (y.detach() * cut.share)?,
            _ => Ok(y),
        }
    }

    fn images(&self) -> Tensor {
        self.weight(0.5, 3, 8).unwrap()
    }
}

impl ResidualNetwork for Small {
    fn blocks(&self) -> Vec<Block> {
        let block = |(stage, transition)| Block { stage, transition };
        [(0, false), (0, false), (1, true), (1, false)]
            .map(block)
            .into()
    }
    fn stem(&self, images: &Tensor) -> Result<Tensor> {
        Ok(images.clone())
    }
    fn shortcut(&self, block: usize, h: &Tensor) -> Result<Tensor> {
        if block != 2 {
            return Ok(h.clone());
        }
        self.hide(Part::Shortcut(2), h.matmul(&self.weight(1.0, 8, 4)?)?)
    }
    fn branch(&self, block: usize, h: &Tensor) -> Result<Tensor> {
        let (from, to) = if block < 2 { (8, 8) } else { (h.dim(1)?, 4) };
        let inner = h.matmul(&self.weight(2.0 + block as f32, from, 16)?)?;
        // h is 0 in places, where this ReLU's derivative is a convention.
        let inner = if block == 1 {
            inner.broadcast_add(&h.relu()?.sum_keepdim(D::Minus1)?)?
        } else {
            inner
        };
        let inner = inner.relu()?.sin()?;
        self.hide(
            Part::Branch(block),
            inner.matmul(&self.weight(7.0, 16, to)?)?,
        )
    }
    fn after(&self, block: usize, sum: &Tensor) -> Result<Tensor> {
        self.hide(Part::After(block), sum.relu()?)
    }
    fn head(&self, h: &Tensor) -> Result<Tensor> {
        // Softmax from its parts.
        let exp = h.exp()?;
        let softmax = exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?;
        self.hide(Part::Head, softmax)
    }
}

fn checks(network: &Small) -> Vec<GradientCheck> {
    match check_gradients(network, &network.images()) {
        Ok(checks) => checks,
        Err(error) => panic!("{error}"),
    }
}

fn parts() -> Vec<Part> {
    let mut parts = Vec::new();
    for block in 0..4 {
        parts.extend((block == 2).then_some(Part::Shortcut(block)));
        parts.extend([Part::Branch(block), Part::After(block)]);
    }
    parts.push(Part::Head);
    parts
}

#[test]
fn whole_gradients_pass_and_are_seen_sharply() {
    for dtype in [DType::F32, DType::F64] {
        let found = checks(&Small { dtype, cut: None });
        let names: Vec<_> = found.iter().map(|check| check.part).collect();
        assert_eq!(names, parts());
        for check in found {
            assert!(check.bound < 0.04, "{dtype:?}: {check}");
            assert!(check.missing < check.bound / 2.0, "{dtype:?}: {check}");
        }
    }
}

#[test]
fn a_cut_is_found_in_its_function_alone() {
    for part in parts() {
        for share in [1.0, 0.25, 0.05] {
            let network = Small {
                dtype: DType::F32,
                cut: Some(Cut { part, share }),
            };
            let Err(error) = check_gradients(&network, &network.images()) else {
                panic!("{part}: {share} is missing");
            };
            assert!(error.to_string().contains(&part.to_string()), "{error}");
            let Error::CutGradients { cut } = error else {
                panic!("{error}");
            };
            let [check] = cut[..] else {
                panic!("{part}, and others: {cut:?}");
            };
            // The same directions for both: the share is off by the differences' error alone.
            assert_eq!(check.part, part);
            assert!((check.missing - share).abs() < check.bound, "{check}");
        }
    }
}

/// A network that keeps its own gradients to itself.
struct Plain<'a>(&'a dyn ResidualNetwork);

impl ResidualNetwork for Plain<'_> {
    fn blocks(&self) -> Vec<Block> {
        self.0.blocks()
    }
    fn stem(&self, images: &Tensor) -> Result<Tensor> {
        self.0.stem(images)
    }
    fn shortcut(&self, block: usize, h: &Tensor) -> Result<Tensor> {
        self.0.shortcut(block, h)
    }
    fn branch(&self, block: usize, h: &Tensor) -> Result<Tensor> {
        self.0.branch(block, h)
    }
    fn after(&self, block: usize, sum: &Tensor) -> Result<Tensor> {
        self.0.after(block, sum)
    }
    fn head(&self, h: &Tensor) -> Result<Tensor> {
        self.0.head(h)
    }
}

/// A network whose own gradients of block 1 are half of what they should be.
struct Halved<'a>(&'a dyn ResidualNetwork);

impl ResidualNetwork for Halved<'_> {
    fn blocks(&self) -> Vec<Block> {
        self.0.blocks()
    }
    fn stem(&self, images: &Tensor) -> Result<Tensor> {
        self.0.stem(images)
    }
    fn shortcut(&self, block: usize, h: &Tensor) -> Result<Tensor> {
        self.0.shortcut(block, h)
    }
    fn branch(&self, block: usize, h: &Tensor) -> Result<Tensor> {
        self.0.branch(block, h)
    }
    fn after(&self, block: usize, sum: &Tensor) -> Result<Tensor> {
        self.0.after(block, sum)
    }
    fn head(&self, h: &Tensor) -> Result<Tensor> {
        self.0.head(h)
    }
    fn block_backward(&self) -> Option<&dyn BlockBackward> {
        Some(self)
    }
}

impl BlockBackward for Halved<'_> {
    fn gradients(&self, block: usize, h: &Tensor, gradient: &Tensor) -> Result<BlockGradients> {
        let own = self.0.block_backward().unwrap();
        let mut found = own.gradients(block, h, gradient)?;
        if block == 1 {
            found.h = (found.h * 0.5)?;
        }
        Ok(found)
    }
    fn head_gradient(&self, h: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        self.0.block_backward().unwrap().head_gradient(h, gradient)
    }
}

/// Explicit and recorded, the gradients of the networks that we have are whole.
#[test]
fn our_networks_pass() {
    for case in CASES.into_iter().chain(["imported-chenyaofo-resnet20"]) {
        let fixture = Fixture::open(case);
        let network = fixture.network();
        let images = fixture.batch("evaluation").0.narrow(0, 0, 1).unwrap();
        for (way, network) in [("explicit", &*network), ("recorded", &Plain(&*network))] {
            match check_gradients(network, &images) {
                Ok(checks) => {
                    assert!(checks.len() > network.blocks().len());
                    for check in checks {
                        assert!(check.bound < 0.4, "{case}, {way}: {check}");
                    }
                }
                Err(error) => panic!("{case}, {way}: {error}"),
            }
        }
    }
}

#[test]
fn a_networks_own_gradients_are_checked_too() {
    let fixture = Fixture::open(CASES[0]);
    let network = fixture.network();
    let images = fixture.batch("evaluation").0.narrow(0, 0, 1).unwrap();
    let found = check_gradients(&Halved(&*network), &images);
    let Err(Error::CutGradients { cut }) = found else {
        panic!("half of block 1 is missing: {found:?}");
    };
    assert_eq!(cut.len(), 1, "{cut:?}");
    assert_eq!(cut[0].part, Part::Block(1));
    assert!((cut[0].missing - 0.5).abs() < cut[0].bound, "{cut:?}");
}

#[test]
fn a_gradient_that_is_no_number_is_found() {
    /// √ of what a ReLU leaves: finite everywhere, with 0 · ∞ for a gradient where the ReLU is shut.
    struct Roots;
    impl ResidualNetwork for Roots {
        fn blocks(&self) -> Vec<Block> {
            vec![Block {
                stage: 0,
                transition: false,
            }]
        }
        fn stem(&self, images: &Tensor) -> Result<Tensor> {
            Ok(images.clone())
        }
        fn branch(&self, _: usize, h: &Tensor) -> Result<Tensor> {
            h.relu()?.sqrt()
        }
        fn head(&self, h: &Tensor) -> Result<Tensor> {
            Ok(h.clone())
        }
    }
    let images = Tensor::new(&[[1f32, -1., 2., -2.]], &Device::Cpu).unwrap();
    let found = check_gradients(&Roots, &images);
    let Err(Error::CutGradients { cut }) = found else {
        panic!("NaN passed: {found:?}");
    };
    assert_eq!(cut[0].part, Part::Branch(0));
    assert!(cut[0].missing.is_nan());
}
