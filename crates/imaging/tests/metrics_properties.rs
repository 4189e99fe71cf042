//! What must hold for the metrics of any picture.

use imaging::metrics::{
    SsimWindow, box_ssim, delta_e, detection_score, masked_delta_e, psnr, ssim, ssimulacra2,
};
use imaging::{ColorType, Image, Mask, Plane, Samples};
use proptest::prelude::*;

const COLORS: [ColorType; 4] =
    [ColorType::Gray, ColorType::GrayAlpha, ColorType::Rgb, ColorType::Rgba];

/// Two pictures of the same kind and a mask of their size.
fn pictures() -> impl Strategy<Value = (Image, Image, Mask)> {
    (11_usize..24, 11_usize..24, 0..4_usize, any::<bool>()).prop_flat_map(|(w, h, color, deep)| {
        let color = COLORS[color];
        let samples = move || {
            prop::collection::vec(any::<u16>(), w * h * color.channels()).prop_map(move |values| {
                let samples = if deep {
                    Samples::U16(values)
                } else {
                    Samples::U8(values.iter().map(|&value| value as u8).collect())
                };
                Image::new(w, h, color, samples).expect("the size fits")
            })
        };
        let mask = prop::collection::vec(any::<u8>(), w * h).prop_map(move |weights| {
            Mask::from_plane(Plane::from_vec(w, h, weights).expect("the size fits"))
        });
        (samples(), samples(), mask)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn a_picture_is_like_itself((image, _, mask) in pictures()) {
        prop_assert_eq!(psnr(&image, &image).unwrap(), f64::INFINITY);
        prop_assert_eq!(ssim(&image, &image, SsimWindow::Uniform).unwrap(), 1.0);
        let gaussian = ssim(&image, &image, SsimWindow::Gaussian).unwrap();
        prop_assert!((gaussian - 1.0).abs() < 1e-12);
        prop_assert_eq!(delta_e(&image, &image).unwrap(), 0.0);
        prop_assert_eq!(detection_score(&mask, &mask, 2.0).unwrap().f1, 1.0);
        let score = ssimulacra2(&image, &image).unwrap().expect("at least 8×8");
        prop_assert!((score - 100.0).abs() < 1e-6);
    }

    #[test]
    fn the_order_of_two_pictures_does_not_matter((a, b, _) in pictures()) {
        prop_assert_eq!(psnr(&a, &b).unwrap(), psnr(&b, &a).unwrap());
        let near = |x: f64, y: f64| (x - y).abs() < 1e-12;
        let uniform = SsimWindow::Uniform;
        prop_assert!(near(ssim(&a, &b, uniform).unwrap(), ssim(&b, &a, uniform).unwrap()));
        prop_assert!(near(delta_e(&a, &b).unwrap(), delta_e(&b, &a).unwrap()));
    }

    #[test]
    fn every_score_is_in_its_range((a, b, mask) in pictures()) {
        prop_assert!((-1.0..=1.0).contains(&ssim(&a, &b, SsimWindow::Uniform).unwrap()));
        if let Some(score) = box_ssim(&a, &b, &mask, SsimWindow::Uniform).unwrap() {
            prop_assert!((-1.0..=1.0).contains(&score));
        }
        if let Some(difference) = masked_delta_e(&a, &b, &mask).unwrap() {
            prop_assert!((0.0..200.0).contains(&difference));
        }
        let full = Mask::from_fn(a.width(), a.height(), |_, _| true);
        let all = masked_delta_e(&a, &b, &full).unwrap().expect("not empty");
        prop_assert!((all - delta_e(&a, &b).unwrap()).abs() < 1e-9);
    }
}
