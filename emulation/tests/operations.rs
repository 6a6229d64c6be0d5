//! The operations by themselves, where a whole step would not tell: badly scaled numbers, what does not fit.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::iter::zip;

use candle_core::{Device, Tensor};
use ir_emulation::{distance, gpus, uniform};
use ir_tensor_ops::gpu::{
    Buffer, Descent, EpochOrder, Linear, Losses, Map, NormRule, NormState, Parameters, Precision,
    ResidentImages, Sources, StepState,
};
use ir_tensor_ops::{Error, Norm, per_sample};

#[test]
fn statistics_survive_a_large_mean() {
    // The second has more pieces than threads share them.
    for (gpu, (images, side)) in gpus()
        .into_iter()
        .cycle()
        .zip([(5, 6), (5, 6), (70, 3), (70, 3)])
    {
        let channels = 18;
        // Numbers around 1000 · channel, a hundredth wide: in f32 sums of squares nothing would be left of that.
        let values: Vec<f32> = (0..images * channels * side * side)
            .map(|i| {
                let channel = i / (side * side) % channels;
                1000. * channel as f32 + (i * 7919 % 1009) as f32 / 1e5
            })
            .collect();
        let x =
            Tensor::from_vec(values.clone(), (images, channels, side, side), &Device::Cpu).unwrap();
        let map = Map::from_tensor(&gpu, &x, Precision::F32).unwrap();
        let moments = Buffer::new(&gpu, images * 3 * 32).unwrap();
        map.moments(&moments).unwrap();
        let norm = NormState::new(&gpu, channels).unwrap();
        let [one, zero] = [1f32, 0.].map(|value| {
            let mut values = vec![value; channels];
            values.resize(32, 0.);
            Buffer::from_slice(&gpu, &values).unwrap()
        });
        norm.of_moments(&moments, images, &one, &zero, 1e-5)
            .unwrap();
        let (mean, variance) = (norm.mean.to_vec().unwrap(), norm.variance.to_vec().unwrap());
        let inverse = norm.inverse_deviation.to_vec().unwrap();
        for channel in 0..channels {
            let of: Vec<f64> = values
                .chunks(side * side)
                .skip(channel)
                .step_by(channels)
                .flatten()
                .map(|&value| f64::from(value))
                .collect();
            let exact = of.iter().sum::<f64>() / of.len() as f64;
            let squares =
                of.iter().map(|value| (value - exact).powi(2)).sum::<f64>() / of.len() as f64;
            // The mean is rounded once; a piece's mean, rounded, shifts its Σ(x − mean)² by its own square.
            let ulp = exact * 2f64.powi(-24);
            assert!(
                (f64::from(mean[channel]) - exact).abs() <= ulp,
                "channel {channel}"
            );
            let bound = 1e-6 * squares + ulp * ulp;
            assert!(
                (f64::from(variance[channel]) - squares).abs() <= bound,
                "channel {channel}"
            );
            let expected = 1. / (f64::from(variance[channel]) + 1e-5).sqrt();
            assert!((f64::from(inverse[channel]) - expected).abs() <= 2e-7 * expected);
        }
        assert_eq!(norm.scale.to_vec().unwrap()[channels..], [0.; 14]);
    }
}

#[test]
fn a_classifier_and_its_loss_are_those_of_the_cpu() {
    for gpu in gpus() {
        let (rows, inputs, outputs) = (7, 33, 41);
        let random = |seed, rows, columns| uniform(&[rows, columns], seed).unwrap();
        let buffer = |tensor: &Tensor| {
            let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            Buffer::from_slice(&gpu, &values).unwrap()
        };
        let tensor = |buffer: &Buffer<f32>, shape: (usize, usize)| {
            Tensor::from_vec(buffer.to_vec().unwrap(), shape, &Device::Cpu).unwrap()
        };
        let (x, weight, bias) = (
            random(1, rows, inputs),
            random(2, outputs, inputs),
            random(3, 1, outputs),
        );
        let linear = Linear {
            weight: buffer(&weight),
            bias: buffer(&bias),
            inputs,
            outputs,
        };
        let y = Buffer::new(&gpu, rows * outputs).unwrap();
        linear.forward(rows, &buffer(&x), &y).unwrap();
        let logits = tensor(&y, (rows, outputs));
        let expected = x
            .matmul(&weight.t().unwrap())
            .unwrap()
            .broadcast_add(&bias)
            .unwrap();
        assert!(distance(&logits, &expected) < 1e-6);

        let labels: Vec<u32> = (0..rows as u32).collect();
        let losses = Losses::new(&gpu, rows, outputs).unwrap();
        losses
            .compute(
                rows,
                outputs,
                &y,
                &Buffer::from_slice(&gpu, &labels).unwrap(),
            )
            .unwrap();
        let labels = Tensor::from_vec(labels, rows, &Device::Cpu).unwrap();
        let expected = per_sample::cross_entropy(&logits, &labels).unwrap();
        for (found, expected) in losses.loss.to_vec().unwrap().iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-12 * expected.max(1.));
        }
        let correct = per_sample::correct(&logits, &labels).unwrap();
        let found: Vec<bool> = losses
            .correct
            .to_vec()
            .unwrap()
            .iter()
            .map(|&c| c == 1)
            .collect();
        assert_eq!(found, correct);
        let expected = ir_tensor_ops::explicit::cross_entropy_backward(&logits, &labels).unwrap();
        let dy = tensor(&losses.gradient, (rows, outputs));
        assert!(distance(&dy, &expected) < 1e-6);

        let (dx, dw, db) = (
            Buffer::new(&gpu, rows * inputs).unwrap(),
            Buffer::new(&gpu, outputs * inputs).unwrap(),
            Buffer::new(&gpu, outputs).unwrap(),
        );
        linear.gradient_of_x(rows, &losses.gradient, &dx).unwrap();
        linear
            .gradient_of_weight(rows, &buffer(&x), &losses.gradient, [&dw, &db])
            .unwrap();
        assert!(distance(&tensor(&dx, (rows, inputs)), &dy.matmul(&weight).unwrap()) < 1e-6);
        let expected = dy.t().unwrap().matmul(&x).unwrap();
        assert!(distance(&tensor(&dw, (outputs, inputs)), &expected) < 1e-6);
        let expected = dy.sum_keepdim(0).unwrap();
        assert!(distance(&tensor(&db, (1, outputs)), &expected) < 1e-5);
    }
}

#[test]
fn a_label_that_is_no_class_has_no_loss() {
    for gpu in gpus() {
        let losses = Losses::new(&gpu, 2, 3).unwrap();
        let logits = Buffer::from_slice(&gpu, &[0f32; 6]).unwrap();
        losses
            .compute(2, 3, &logits, &Buffer::from_slice(&gpu, &[2, 3]).unwrap())
            .unwrap();
        let loss = losses.loss.to_vec().unwrap();
        assert!(loss[0].is_finite() && loss[1].is_nan());
        let state = StepState::new(&gpu, 1).unwrap();
        state.begin(0).unwrap();
        state.total(2, &losses).unwrap();
        assert!(state.progress(0).unwrap().stopped.is_some());
    }
}

#[test]
fn statistics_are_those_of_all_pieces() {
    for gpu in gpus() {
        // More than threads read at a time, and not a multiple of that.
        let (channels, pieces) = (16, 1200);
        let values: Vec<f32> = uniform(&[pieces * 3 * channels], 1)
            .unwrap()
            .to_vec1()
            .unwrap();
        // Count, mean and squared distances of a piece.
        let number = |piece: usize, what: usize, channel: usize| {
            let value = values[(piece * 3 + what) * channels + channel];
            match what {
                0 => (piece % 7 + 1) as f32,
                1 => 3. + value,
                _ => value.abs(),
            }
        };
        let mut moments = Vec::new();
        for piece in 0..pieces {
            for what in 0..3 {
                moments.extend((0..channels).map(|channel| number(piece, what, channel)));
            }
        }
        let moments = Buffer::from_slice(&gpu, &moments).unwrap();
        let norm = NormState::new(&gpu, channels).unwrap();
        let gamma = Buffer::from_slice(&gpu, &vec![1f32; channels]).unwrap();
        norm.of_moments(&moments, pieces, &gamma, &gamma, 1e-5)
            .unwrap();
        let (mean, variance) = (norm.mean.to_vec().unwrap(), norm.variance.to_vec().unwrap());
        for channel in 0..channels {
            let sum = |term: &dyn Fn(f64, f64, f64) -> f64| -> f64 {
                let of = |piece, what| f64::from(number(piece, what, channel));
                (0..pieces)
                    .map(|piece| term(of(piece, 0), of(piece, 1), of(piece, 2)))
                    .sum()
            };
            let count = sum(&|count, _, _| count);
            let exact = sum(&|count, mean, _| count * mean) / count;
            let spread =
                sum(&|count, mean, squares| squares + count * (mean - exact).powi(2)) / count;
            // Sums in f64, rounded to f32 once.
            let near = |found: f32, exact: f64| (f64::from(found) - exact).abs() <= 6e-8 * exact;
            assert!(near(mean[channel], exact), "channel {channel}");
            assert!(near(variance[channel], spread), "channel {channel}");
        }
    }
}

#[test]
fn a_gradient_goes_through_a_norm_of_any_channels_and_pieces() {
    // Channels that are a power of two, and 112 with their padding; more pieces than threads read at a time.
    for (gpu, dims) in gpus()
        .into_iter()
        .flat_map(|gpu| [[5usize, 16, 10, 10], [3, 100, 5, 5]].map(|dims| (gpu.clone(), dims)))
    {
        let [images, channels, height, width] = dims;
        let (padded, pieces, count) =
            (channels.next_multiple_of(16), 1200, images * height * width);
        let numbers = |seed: u64, length: usize, from: f64| -> Vec<f32> {
            let tensor = uniform(&[length], seed).unwrap().affine(1., from).unwrap();
            tensor.to_vec1().unwrap()
        };
        let of_channels = |seed| {
            let mut values = numbers(seed, channels, 2.);
            values.resize(padded, 0.);
            Buffer::from_slice(&gpu, &values).unwrap()
        };
        let norm = NormState {
            mean: of_channels(1),
            variance: of_channels(2),
            ..NormState::new(&gpu, channels).unwrap()
        };
        norm.resolve(&of_channels(3), &of_channels(4), 1e-5)
            .unwrap();
        let sums = numbers(5, pieces * 2 * padded, 0.);
        let [of_gamma, of_beta] = [0, 1].map(|_| Buffer::<f32>::new(&gpu, padded).unwrap());
        let rule = NormRule::new(&gpu, channels).unwrap();
        let device_sums = Buffer::from_slice(&gpu, &sums).unwrap();
        norm.gradient(
            &device_sums,
            pieces,
            count,
            [&of_gamma, &of_beta],
            false,
            &rule,
        )
        .unwrap();
        let total = |which: usize, channel: usize| -> f64 {
            let of_piece = sums.chunks(2 * padded);
            of_piece
                .map(|piece| f64::from(piece[which * padded + channel]))
                .sum()
        };
        let read = |buffer: &Buffer<f32>| -> Vec<f64> {
            buffer
                .to_vec()
                .unwrap()
                .into_iter()
                .map(f64::from)
                .collect()
        };
        let (scale, mean, inverse) = (
            read(&norm.scale),
            read(&norm.mean),
            read(&norm.inverse_deviation),
        );
        // Of each channel Σ g and Σ g (x − mean); the gradients of γ and β are rounded to f32 once.
        let totals: Vec<[f64; 2]> = (0..channels)
            .map(|channel| [0, 1].map(|which| total(which, channel)))
            .collect();
        let near = |found: f64, exact: f64| (found - exact).abs() <= 1e-6 * exact.abs();
        for (channel, (of_gamma, of_beta)) in zip(read(&of_gamma), read(&of_beta))
            .enumerate()
            .take(channels)
        {
            let [plain, centred] = totals[channel];
            assert!(near(of_beta, plain), "channel {channel}");
            assert!(
                near(of_gamma, centred * inverse[channel]),
                "channel {channel}"
            );
        }
        let [gradient, x, added] = [6, 7, 8].map(|seed| uniform(&dims, seed).unwrap());
        let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let expected = zip(zip(values(&gradient), values(&x)), values(&added))
            .enumerate()
            .map(|(i, ((g, x), added))| {
                let channel = i / (height * width) % channels;
                let [plain, centred] = totals[channel];
                let of_x = inverse[channel].powi(2) * centred * (f64::from(x) - mean[channel]);
                let through = f64::from(g) - (of_x + plain) / count as f64;
                (scale[channel] * through + f64::from(added)) as f32
            })
            .collect::<Vec<f32>>();
        let expected = Tensor::from_vec(expected, &dims, &Device::Cpu).unwrap();
        for (precision, bound) in [(Precision::F32, 1e-6), (Precision::Bf16, 1e-2)] {
            let [gradient, x, added] =
                [&gradient, &x, &added].map(|map| Map::from_tensor(&gpu, map, precision).unwrap());
            norm.gradient_of_x(&rule, &gradient, &x, Some(&added), &gradient)
                .unwrap();
            let found = distance(&gradient.to_tensor().unwrap(), &expected);
            assert!(found < bound, "{dims:?}, {precision:?}: {found}");
        }
    }
}

#[test]
fn features_and_their_gradient_are_those_of_the_cpu() {
    for gpu in gpus() {
        // A kernel that does not divide the map: what fills no window has no part.
        let (dims, kernel) = ([3, 17, 7, 5], 2);
        let x = uniform(&dims, 0).unwrap();
        let random = |seed| uniform(&[dims[1]], seed).unwrap().affine(0.5, 1.0).unwrap();
        let (mean, variance, gamma, beta) = (random(1), random(2), random(3), random(4));
        let on_the_cpu = Norm::running(&mean, &variance, &gamma, &beta, 1e-5).unwrap();
        let padded = |tensor: &Tensor| {
            let mut values = tensor.to_vec1::<f32>().unwrap();
            values.resize(32, 0.);
            Buffer::from_slice(&gpu, &values).unwrap()
        };
        let norm = NormState {
            mean: padded(&mean),
            variance: padded(&variance),
            ..NormState::new(&gpu, dims[1]).unwrap()
        };
        norm.resolve(&padded(&gamma), &padded(&beta), 1e-5).unwrap();
        let map = Map::from_tensor(&gpu, &x, Precision::F32).unwrap();
        let features = Buffer::new(&gpu, 3 * 17 * 3 * 2).unwrap();
        map.features(&norm, kernel, &features).unwrap();
        let active = ir_tensor_ops::frozen_norm_relu(&x, &on_the_cpu).unwrap();
        let pooled = ir_tensor_ops::avg_pool2d(&active, kernel).unwrap();
        let found =
            Tensor::from_vec(features.to_vec().unwrap(), pooled.shape(), &Device::Cpu).unwrap();
        assert!(distance(&found, &pooled) < 1e-6);

        let workspace = ir_tensor_ops::Workspace::default();
        let arriving = uniform(pooled.dims(), 5).unwrap();
        let activation =
            |tensor| ir_tensor_ops::Activation::from_tensor(&workspace, tensor).unwrap();
        let (expected, parameters) = activation(&x)
            .norm_relu_avg_pool2d_backward(&on_the_cpu, kernel, &activation(&arriving))
            .unwrap();
        let arriving = arriving.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let arriving = Buffer::from_slice(&gpu, &arriving).unwrap();
        let dx = Map::new(&gpu, dims, Precision::F32).unwrap();
        let sums = Buffer::new(&gpu, 3 * 2 * 32).unwrap();
        map.features_gradient(&norm, kernel, &arriving, &dx, &sums)
            .unwrap();
        let (of_gamma, of_beta) = (
            Buffer::new(&gpu, 32).unwrap(),
            Buffer::new(&gpu, 32).unwrap(),
        );
        let rule = NormRule::new(&gpu, dims[1]).unwrap();
        norm.gradient(&sums, 3, 0, [&of_gamma, &of_beta], false, &rule)
            .unwrap();
        norm.gradient_of_x(&rule, &dx, &map, None, &dx).unwrap();
        assert!(
            distance(
                &dx.to_tensor().unwrap(),
                &expected.whole().to_tensor().unwrap()
            ) < 1e-6
        );
        for (found, expected) in [(&of_gamma, parameters.gamma), (&of_beta, parameters.beta)] {
            let found =
                Tensor::from_vec(found.to_vec().unwrap()[..17].to_vec(), 17, &Device::Cpu).unwrap();
            assert!(distance(&found, &expected) < 1e-6);
        }
        // Once more, on top.
        norm.gradient(&sums, 3, 0, [&of_gamma, &of_beta], true, &rule)
            .unwrap();
        let twice = of_beta.to_vec().unwrap()[0];
        norm.gradient(&sums, 3, 0, [&of_gamma, &of_beta], false, &rule)
            .unwrap();
        assert_eq!(twice, 2. * of_beta.to_vec().unwrap()[0]);
    }
}

#[test]
fn the_first_parameters_decay_and_the_copy_follows() {
    for gpu in gpus() {
        let mut parameters = Parameters::new(&gpu, 3, true).unwrap();
        parameters.weights = Buffer::from_slice(&gpu, &[1f32, 1., 3.]).unwrap();
        parameters.velocities = Buffer::from_slice(&gpu, &[2f32, 0., 0.]).unwrap();
        parameters.gradients = Buffer::from_slice(&gpu, &[4f32, 4., 4.]).unwrap();
        parameters.rate = Buffer::from_slice(&gpu, &[0.125f32]).unwrap();
        let state = StepState::new(&gpu, 1).unwrap();
        state.begin(0).unwrap();
        let descent = Descent {
            momentum: 0.5,
            weight_decay: 1.,
            decayed: 2,
        };
        parameters.descend(descent, &state).unwrap();
        // v = 0.5 v + 4 + decay · w; w − v / 8
        assert_eq!(parameters.velocities.to_vec().unwrap(), [6., 5., 4.]);
        assert_eq!(parameters.weights.to_vec().unwrap(), [0.25, 0.375, 2.5]);
        let copy = parameters.copy.as_ref().unwrap().to_vec().unwrap();
        let copy: Vec<f32> = copy.into_iter().map(f32::from).collect();
        assert_eq!(copy, [0.25, 0.375, 2.5]);
        // What would not be finite is not done, nor anything after it.
        parameters
            .gradients
            .write(&[0., f32::INFINITY, 0.])
            .unwrap();
        parameters.descend(descent, &state).unwrap();
        parameters.gradients.write(&[0.; 3]).unwrap();
        parameters.descend(descent, &state).unwrap();
        assert_eq!(parameters.weights.to_vec().unwrap(), [0.25, 0.375, 2.5]);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    for gpu in gpus() {
        let shape =
            |result: ir_tensor_ops::Result<()>| matches!(result.unwrap_err(), Error::Shape { .. });
        let map = Map::new(&gpu, [2, 3, 4, 4], Precision::F32).unwrap();
        let other = Map::new(&gpu, [2, 3, 2, 2], Precision::Bf16).unwrap();
        assert!(shape(map.avg_pool2d(2, &other)));
        assert!(matches!(
            map.avg_pool2d(5, &other).unwrap_err(),
            Error::Setting { .. }
        ));
        assert!(shape(map.moments(&Buffer::new(&gpu, 95).unwrap())));
        let norm = NormState::new(&gpu, 17).unwrap();
        assert!(shape(map.features(
            &norm,
            2,
            &Buffer::new(&gpu, 100).unwrap()
        )));
        let rule = NormRule::new(&gpu, 3).unwrap();
        assert!(shape(norm.gradient_of_x(&rule, &map, &map, None, &map)));
        assert!(Map::new(&gpu, [1 << 20, 16, 16, 16], Precision::F32).is_err());
        assert!(Map::new(&gpu, [1, 0, 1, 1], Precision::F32).is_err());

        let order = EpochOrder::new(&gpu, 4, 3, 1).unwrap();
        assert!(shape(order.write(&[0, 1, 2, 3], &[0; 4])));
        assert!(shape(order.write(&[0, 1, 2], &[0; 4])));
        assert!(EpochOrder::new(&gpu, 4, 3, 128).is_err());
        let lookup = [0f32; 256];
        assert!(ResidentImages::new(&gpu, &[0; 7], &[0, 1], &lookup, 2).is_err());
        let images = ResidentImages::new(&gpu, &[0; 8], &[0, 1], &lookup, 2).unwrap();
        let state = StepState::new(&gpu, 1).unwrap();
        let (map, labels) = (
            Map::new(&gpu, [2, 1, 2, 2], Precision::F32).unwrap(),
            Buffer::new(&gpu, 2).unwrap(),
        );
        // An order of three images, where there are two.
        assert!(shape(images.take(&order, &state, &map, &labels)));
        let two = [Some((0, 1f32)), Some((2, 1.))];
        let sources = Sources::new(&gpu, &two).unwrap();
        let (short, long) = (Buffer::new(&gpu, 2).unwrap(), Buffer::new(&gpu, 3).unwrap());
        assert!(shape(state.take_statistics(
            [&short, &short],
            [&short, &short],
            &sources,
            0.1
        )));
        assert!(
            state
                .take_statistics([&short, &short], [&long, &long], &sources, 0.1)
                .is_ok()
        );
        assert!(shape(state.begin(1)));
    }
}

#[test]
fn a_graph_keeps_what_it_needs() {
    for gpu in gpus() {
        gpu.time_recordings(true);
        let buffer = Buffer::<f32>::zeros(&gpu, 3).unwrap();
        // A kernel is loaded when it is first used, which cannot be recorded.
        buffer.fill(0.).unwrap();
        let graph = gpu.record(|| buffer.fill(1.)).unwrap();
        drop((gpu, buffer));
        graph.launch().unwrap();
        // Waits for what was started.
        assert_eq!(graph.times().unwrap().len(), 1);
    }
}

#[test]
fn a_recording_within_a_recording_is_refused() {
    for gpu in gpus() {
        let buffer = Buffer::from_slice(&gpu, &[1f32]).unwrap();
        buffer.fill(0.).unwrap();
        let nested = gpu.record(|| gpu.record(|| buffer.fill(2.)).map(drop));
        assert!(nested.unwrap_err().to_string().contains("being recorded"));
        // And the device is out of it.
        let graph = gpu.record(|| buffer.fill(3.)).unwrap();
        graph.launch().unwrap();
        assert_eq!(buffer.to_vec().unwrap(), [3.]);
    }
}

#[test]
fn while_operations_wait_for_their_turn_nothing_is_copied_and_no_memory_taken() {
    for gpu in gpus() {
        let buffer = Buffer::from_slice(&gpu, &[1f32]).unwrap();
        buffer.fill(0.).unwrap();
        let refused = |asked: &dyn Fn() -> Result<(), Error>| {
            let error = gpu.record(asked).unwrap_err();
            assert!(error.to_string().contains("being recorded"), "{error}");
            let error = gpu.beside(asked).unwrap_err();
            assert!(error.to_string().contains("beside others"), "{error}");
        };
        refused(&|| Buffer::<f32>::new(&gpu, 1).map(drop));
        refused(&|| buffer.write(&[2.]));
        refused(&|| buffer.to_vec().map(drop));
        assert_eq!(buffer.to_vec().unwrap(), [0.]);
    }
}

#[test]
fn a_panic_ends_a_recording() {
    for gpu in gpus() {
        let buffer = Buffer::from_slice(&gpu, &[1f32]).unwrap();
        buffer.fill(0.).unwrap();
        let work = std::panic::AssertUnwindSafe(|| {
            let work = || -> Result<(), Error> { panic!("on purpose") };
            gpu.record(|| gpu.beside(work)).map(drop)
        });
        std::panic::catch_unwind(work).unwrap_err();
        let graph = gpu.record(|| gpu.beside(|| buffer.fill(3.))).unwrap();
        graph.launch().unwrap();
        assert_eq!(buffer.to_vec().unwrap(), [3.]);
    }
}

#[test]
fn what_goes_on_beside_begins_behind_what_was_before_and_is_done_when_it_is_joined() {
    for gpu in gpus() {
        let [one, other] = [(); 2].map(|()| Buffer::from_slice(&gpu, &[0f32]).unwrap());
        let steps = || {
            one.fill(1.)?;
            gpu.beside(|| one.fill(2.))?;
            other.fill(3.)?;
            gpu.join()?;
            other.fill(4.)
        };
        let both = || (one.to_vec().unwrap()[0], other.to_vec().unwrap()[0]);
        steps().unwrap();
        assert_eq!(both(), (2., 4.));
        let graph = gpu.record(steps).unwrap();
        one.fill(0.).unwrap();
        graph.launch().unwrap();
        assert_eq!(both(), (2., 4.));
        // Whoever waits for all waits for that too.
        gpu.beside(|| one.fill(5.)).unwrap();
        gpu.wait().unwrap();
        assert_eq!(both(), (5., 4.));
        let nested = gpu.beside(|| gpu.beside(|| one.fill(6.)));
        assert!(nested.unwrap_err().to_string().contains("beside"));
        assert_eq!(both(), (5., 4.));
    }
}
