//! Wrong arguments give structured errors, and none panics.

use candle_core::{DType, Device, Tensor};

use super::uniform;
use crate::explicit::{self, Wanted};
use crate::{ChannelStatistics, Error, Norm, Result, per_sample};

fn norm(channels: usize) -> Norm {
    let one = Tensor::ones(channels, DType::F32, &Device::Cpu).unwrap();
    Norm::running(&one, &one, &one, &one, 1e-5).unwrap()
}

/// The argument that a shape error is about.
#[track_caller]
fn shape<T>(result: Result<T>) -> &'static str {
    match result {
        Err(Error::Shape { argument, .. }) => argument,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("no error"),
    }
}

/// The name and value that a setting error is about.
#[track_caller]
fn setting<T>(result: Result<T>) -> (&'static str, f64) {
    match result {
        Err(Error::Setting { name, found, .. }) => (name, found),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("no error"),
    }
}

#[test]
fn convolution() {
    let x = &uniform(&[2, 3, 4, 4], 1);
    let w = &uniform(&[5, 3, 3, 3], 2);
    let conv = |x: &Tensor, w: &Tensor, stride, padding| crate::conv2d(x, w, None, stride, padding);
    assert_eq!(shape(conv(&uniform(&[3, 4, 4], 1), w, 1, 1)), "x");
    assert_eq!(shape(conv(&uniform(&[0, 3, 4, 4], 1), w, 1, 1)), "x");
    assert_eq!(shape(conv(x, &uniform(&[5, 2, 3, 3], 2), 1, 1)), "weight");
    assert_eq!(shape(conv(x, &uniform(&[5, 3, 3, 1], 2), 1, 1)), "weight");
    assert_eq!(shape(conv(x, &uniform(&[5, 3, 5, 5], 2), 1, 1)), "weight");
    assert_eq!(shape(conv(&uniform(&[1, 3, 2, 9], 1), w, 1, 0)), "x");
    assert_eq!(
        shape(crate::conv2d(x, w, Some(&uniform(&[4], 3)), 1, 1)),
        "bias"
    );
    assert_eq!(setting(conv(x, w, 3, 1)), ("stride", 3.));
    assert_eq!(setting(conv(x, w, 0, 1)), ("stride", 0.));
    assert_eq!(setting(conv(x, w, 1, 3)), ("padding", 3.));
    assert_eq!(
        setting(conv(x, w, 1, usize::MAX)),
        ("padding", usize::MAX as f64)
    );
    let wanted = Wanted {
        x: true,
        weight: true,
    };
    let wrong = uniform(&[2, 5, 4, 3], 3);
    assert_eq!(
        shape(explicit::conv2d_backward(x, w, 1, 1, &wrong, wanted)),
        "grad_output"
    );
}

#[test]
fn norm_and_fused_convolution() {
    let x = &uniform(&[2, 3, 4, 4], 1);
    let w = &uniform(&[5, 3, 3, 3], 2);
    let b = &uniform(&[5], 3);
    let fused = |norm: &Norm, residual| explicit::norm_relu_conv2d(x, norm, w, b, 1, 1, residual);
    assert_eq!(shape(fused(&norm(2), None)), "x");
    assert_eq!(shape(fused(&norm(3), Some(x))), "residual");
    let back = |added| {
        let g = uniform(&[2, 5, 4, 4], 4);
        explicit::norm_relu_conv2d_backward(x, &norm(3), w, 1, 1, &g, added)
    };
    assert_eq!(shape(back(Some(b))), "residual_gradient");
    assert_eq!(
        shape(explicit::norm_relu_backward(x, &norm(3), b)),
        "grad_output"
    );

    let three = &uniform(&[3], 5);
    let statistics = ChannelStatistics::of(x).unwrap();
    assert_eq!(shape(Norm::batch(&statistics, b, three, 1e-5)), "gamma");
    assert_eq!(shape(Norm::batch(&statistics, three, b, 1e-5)), "beta");
    for epsilon in [0., -1., f64::NAN, f64::INFINITY] {
        let (name, found) = setting(Norm::batch(&statistics, three, three, epsilon));
        assert_eq!((name, found.to_bits()), ("epsilon", epsilon.to_bits()));
    }
    // Statistics of one batch are not those of another.
    let norm = Norm::batch(&statistics, three, three, 1e-5).unwrap();
    assert_eq!(
        shape(explicit::norm_relu(&uniform(&[1, 3, 4, 4], 1), &norm)),
        "x"
    );
    assert_eq!(
        shape(statistics.update_running(b, three, 0.1)),
        "running_mean"
    );
    assert_eq!(
        shape(statistics.update_running(three, b, 0.1)),
        "running_var"
    );
    assert_eq!(
        setting(statistics.update_running(three, three, 1.5)),
        ("momentum", 1.5)
    );
}

#[test]
fn other_layers() {
    let x = &uniform(&[2, 3, 4, 5], 1);
    assert_eq!(setting(crate::avg_pool2d(x, 0)), ("kernel", 0.));
    assert_eq!(setting(crate::avg_pool2d(x, 5)), ("kernel", 5.));
    assert_eq!(
        shape(explicit::avg_pool2d_backward(&[2, 3], 2, x)),
        "x_shape"
    );
    assert_eq!(
        shape(explicit::avg_pool2d_backward(&[2, 3, 4, 4], 2, x)),
        "grad_output"
    );
    let (rows, weight) = (&uniform(&[2, 3], 2), &uniform(&[4, 3], 3));
    assert_eq!(shape(crate::linear(x, weight, &uniform(&[4], 4))), "x");
    assert_eq!(
        shape(crate::linear(rows, &uniform(&[4, 2], 3), &uniform(&[4], 4))),
        "weight"
    );
    assert_eq!(
        shape(crate::linear(rows, weight, &uniform(&[3], 4))),
        "bias"
    );
    assert_eq!(
        shape(explicit::linear_backward(rows, weight, rows)),
        "grad_output"
    );
    assert_eq!(shape(per_sample::inner(x, rows)), "y");
}

#[test]
fn labels() {
    let logits = &uniform(&[2, 3], 1);
    let labels = Tensor::new(&[0u32, 3], &Device::Cpu).unwrap();
    for error in [
        crate::cross_entropy(logits, &labels).err(),
        explicit::cross_entropy_backward(logits, &labels).err(),
        per_sample::correct(logits, &labels).err(),
    ] {
        let Some(Error::Label {
            index,
            found,
            classes,
            ..
        }) = error
        else {
            panic!("{error:?}");
        };
        assert_eq!((index, found, classes), (1, 3, 3));
    }
    let three = Tensor::new(&[0u32, 1, 2], &Device::Cpu).unwrap();
    assert_eq!(shape(crate::cross_entropy(logits, &three)), "labels");
    let wide = Tensor::new(&[0i64, 1], &Device::Cpu).unwrap();
    assert!(matches!(
        crate::cross_entropy(logits, &wide),
        Err(Error::DType {
            argument: "labels",
            expected: DType::U32,
            found: DType::I64,
            ..
        })
    ));
}

#[test]
fn other_dtypes() {
    let doubles = uniform(&[1, 1, 4, 4], 1).to_dtype(DType::F64).unwrap();
    let w = &uniform(&[1, 1, 3, 3], 2);
    let results = [
        crate::conv2d(&doubles, w, None, 1, 1),
        crate::relu(&doubles),
        crate::avg_pool2d(&doubles, 2),
        crate::tap(&doubles).map(|(y, _)| y),
        explicit::norm_relu(&doubles, &norm(1)),
    ];
    for result in results {
        assert!(matches!(
            result,
            Err(Error::DType {
                argument: "x",
                expected: DType::F32,
                found: DType::F64,
                ..
            })
        ));
    }
}

#[test]
fn messages_say_what_to_do() {
    let x = uniform(&[2, 3, 4, 4], 1);
    let w = uniform(&[5, 2, 3, 3], 2);
    let error: candle_core::Error = crate::conv2d(&x, &w, None, 1, 1).unwrap_err().into();
    let message = error.to_string();
    assert!(
        message.contains("conv2d: weight has shape [5, 2, 3, 3], expected [O, 3, K, K]"),
        "{message}"
    );
}

#[test]
fn statistics_that_do_not_fit_together() {
    let two = Tensor::ones(2, DType::F32, &Device::Cpu).unwrap();
    for [means, variances] in [[2, 1], [2, 3], [2, 40]] {
        let statistics = ChannelStatistics {
            mean: vec![0.; means],
            variance: vec![1.; variances],
            count: 4,
        };
        let norm = Norm::batch(&statistics, &two, &two, 1e-5);
        assert_eq!(shape(norm), "variance");
    }
}
