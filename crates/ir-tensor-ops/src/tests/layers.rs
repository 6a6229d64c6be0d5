//! ReLU, pooling, the linear layer, cross-entropy and taps.

use candle_core::{Device, Tensor, Var};

use super::finite_differences;
use super::oracle::{Term, assert_close, terms};
use super::{numbers, uniform};
use crate::explicit;

/// The gradient of Σ y·g with respect to x, from the graph.
fn gradient(y: &Tensor, g: &Tensor, x: &Var) -> Vec<f32> {
    let grads = (y * g).unwrap().sum_all().unwrap().backward().unwrap();
    numbers(grads.get(x).unwrap())
}

#[test]
fn relu_and_its_gradient_are_exact() {
    // Longer than one piece of work, with a zero of each sign.
    let mut values = numbers(&uniform(&[3, 20_000], 1));
    (values[5], values[6]) = (0., -0.);
    let x = Tensor::from_vec(values.clone(), (3, 20_000), &Device::Cpu).unwrap();
    let x = Var::from_tensor(&x).unwrap();
    let g = uniform(&[3, 20_000], 2);
    let y = crate::relu(&x).unwrap();
    let expected: Vec<f32> = values.iter().map(|&x| x.max(0.)).collect();
    assert_eq!(numbers(&y), expected);
    let expected: Vec<f32> = values
        .iter()
        .zip(numbers(&g))
        .map(|(&x, g)| if x > 0. { g } else { 0. })
        .collect();
    assert_eq!(gradient(&y, &g, &x), expected);
}

#[test]
fn relu_passes_nan_on() {
    let x = Tensor::new(&[f32::NAN, f32::INFINITY], &Device::Cpu).unwrap();
    let y = numbers(&crate::relu(&x).unwrap());
    assert!(y[0].is_nan() && y[1] == f32::INFINITY);
}

/// The mean over the windows of one kernel size.
fn pool(x: &[Term], [height, width]: [usize; 2], kernel: usize) -> Vec<Term> {
    let share = Term::from(1. / (kernel * kernel) as f64);
    let mut y = Vec::new();
    for plane in x.chunks(height * width) {
        for oy in 0..height / kernel {
            for ox in 0..width / kernel {
                let window = (0..kernel * kernel).map(|index| {
                    let (dy, dx) = (index / kernel, index % kernel);
                    plane[(oy * kernel + dy) * width + ox * kernel + dx]
                });
                y.push(share * window.sum::<Term>());
            }
        }
    }
    y
}

#[test]
fn average_pooling_agrees_with_the_oracle_and_finite_differences() {
    for (height, width, kernel) in [(4, 4, 2), (5, 7, 2), (8, 8, 8), (3, 3, 1), (7, 9, 3)] {
        let shape = [2, 3, height, width];
        let x = Var::from_tensor(&uniform(&shape, 1)).unwrap();
        let y = crate::avg_pool2d(&x, kernel).unwrap();
        let expected = pool(&terms(&x), [height, width], kernel);
        assert_eq!(y.dims(), [2, 3, height / kernel, width / kernel]);
        assert_close(&numbers(&y), &expected, kernel * kernel + 2);
        let g = uniform(y.dims(), 2);
        let found = gradient(&y, &g, &x);
        // Every gradient is one product.
        let dx: Vec<Term> = found.iter().map(|&dx| Term::from(f64::from(dx))).collect();
        finite_differences::check("x", &terms(&x), &dx, |x| {
            let y = pool(x, [height, width], kernel);
            y.iter()
                .zip(terms(&g))
                .map(|(y, g)| y.value * g.value)
                .sum()
        });
    }
}

#[test]
fn the_linear_layer_agrees_with_the_oracle() {
    for (batch, inputs, outputs) in [(1, 1, 1), (3, 5, 2), (7, 64, 10), (2, 33, 100)] {
        let x = Var::from_tensor(&uniform(&[batch, inputs], 1)).unwrap();
        let weight = Var::from_tensor(&uniform(&[outputs, inputs], 2)).unwrap();
        let bias = Var::from_tensor(&uniform(&[outputs], 3)).unwrap();
        let g = uniform(&[batch, outputs], 4);
        let y = crate::linear(&x, &weight, &bias).unwrap();
        let (xs, ws, bs, gs) = (terms(&x), terms(&weight), terms(&bias), terms(&g));
        let (mut expected, mut dx) = (Vec::new(), vec![Term::default(); xs.len()]);
        let (mut dw, mut db) = (
            vec![Term::default(); ws.len()],
            vec![Term::default(); outputs],
        );
        for n in 0..batch {
            for o in 0..outputs {
                let mut y = bs[o];
                let g = gs[n * outputs + o];
                for i in 0..inputs {
                    let (x, w) = (xs[n * inputs + i], ws[o * inputs + i]);
                    y = y + x * w;
                    dx[n * inputs + i] = dx[n * inputs + i] + w * g;
                    dw[o * inputs + i] = dw[o * inputs + i] + x * g;
                }
                expected.push(y);
                db[o] = db[o] + g;
            }
        }
        assert_close(&numbers(&y), &expected, inputs + 2);
        let grads = (&y * &g).unwrap().sum_all().unwrap().backward().unwrap();
        let found = |variable: &Var| numbers(grads.get(variable).unwrap());
        assert_close(&found(&x), &dx, outputs + 1);
        assert_close(&found(&weight), &dw, batch + 1);
        assert_close(&found(&bias), &db, 1);
    }
}

/// Mean cross-entropy in f64.
fn cross_entropy(logits: &[Term], labels: &[u32]) -> f64 {
    let classes = logits.len() / labels.len();
    let losses = logits.chunks(classes).zip(labels).map(|(row, &label)| {
        let sum: f64 = row.iter().map(|logit| logit.value.exp()).sum();
        sum.ln() - row[label as usize].value
    });
    losses.sum::<f64>() / labels.len() as f64
}

#[test]
fn cross_entropy_agrees_with_the_oracle_and_finite_differences() {
    let logits = Var::from_tensor(&(uniform(&[5, 7], 1) * 4.).unwrap()).unwrap();
    let labels = [0u32, 6, 3, 3, 1];
    let labels_tensor = Tensor::new(&labels, &Device::Cpu).unwrap();
    let loss = crate::cross_entropy(&logits, &labels_tensor).unwrap();
    assert_eq!(loss.rank(), 0);
    let expected = Term::from(cross_entropy(&terms(&logits), &labels));
    // Computed in f64 and rounded once.
    assert_close(&[loss.to_scalar().unwrap()], &[expected], 2);
    // A factor in front of the loss reaches the gradient.
    let grads = (loss * 3.).unwrap().backward().unwrap();
    let found = terms(grads.get(&logits).unwrap());
    finite_differences::check("logits", &terms(&logits), &found, |logits| {
        3. * cross_entropy(logits, &labels)
    });
}

#[test]
fn cross_entropy_of_extreme_logits_is_finite() {
    let logits = Tensor::new(&[[3e38f32, -3e38], [-3e38, -3e38]], &Device::Cpu).unwrap();
    let labels = Tensor::new(&[0u32, 1], &Device::Cpu).unwrap();
    let loss: f32 = explicit::cross_entropy(&logits, &labels)
        .unwrap()
        .to_scalar()
        .unwrap();
    assert_eq!(loss, (0.5 * 2f64.ln()) as f32);
    let gradient = explicit::cross_entropy_backward(&logits, &labels).unwrap();
    assert_eq!(numbers(&gradient), [0., 0., 0.25, -0.25]);
}

#[test]
fn a_tap_sees_the_whole_gradient_of_every_pass() {
    let x = Var::from_tensor(&uniform(&[2, 3], 1)).unwrap();
    let (h, tap) = crate::tap(&x.affine(2., 0.).unwrap()).unwrap();
    assert!(tap.gradient().is_none());
    assert_eq!(numbers(&h), numbers(&x.affine(2., 0.).unwrap()));
    // Two ways lead on from h: their gradients arrive as one sum.
    let loss = (h.affine(3., 0.).unwrap() + h.affine(4., 0.).unwrap()).unwrap();
    let grads = loss.sum_all().unwrap().backward().unwrap();
    assert_eq!(numbers(&tap.gradient().unwrap()), [7.; 6]);
    assert_eq!(numbers(grads.get(&x).unwrap()), [14.; 6]);
    h.sum_all().unwrap().backward().unwrap();
    assert_eq!(numbers(&tap.gradient().unwrap()), [1.; 6]);
}
