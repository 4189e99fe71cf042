//! An engine without networks: the classical ways, and one that takes as long as a test wants.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use imaging::detect::DetectParams;
use imaging::fill::{FillMethod, FillOptions};
use imaging::{Detector, Image, ImagingError, Mask, Observer, Plane, Repainter, Step};
use server::{About, Choices, Engine, LoraChoice, Method, classical_params};

/// The classical ways, `slow`, `panics`, and `fails`.
#[derive(Debug, Default)]
pub struct TestEngine {
    /// What `slow` waits at, after its first window.
    pub gate: Gate,
    /// The most restorations that ever ran at the same time, and how many run.
    pub running: Mutex<(usize, usize)>,
}

/// Closed until opened.
#[derive(Debug, Default)]
pub struct Gate {
    is_open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    pub fn open(&self) {
        *self.is_open.lock().expect("not poisoned") = true;
        self.changed.notify_all();
    }

    /// Waits until it is open, or nobody wants to wait any more.
    fn pass(&self, observer: &dyn Observer) -> imaging::Result<()> {
        let mut is_open = self.is_open.lock().expect("not poisoned");
        while !*is_open {
            observer.check()?;
            let wait = self.changed.wait_timeout(is_open, Duration::from_millis(5));
            is_open = wait.expect("not poisoned").0;
        }
        Ok(())
    }
}

impl Engine for TestEngine {
    fn about(&self) -> About {
        let methods = ["biharmonic", "telea", "slow", "panics", "fails"].map(|name| Method {
            name: name.to_owned(),
            label: name.to_owned(),
            is_model: name == "slow",
        });
        About {
            version: "0".to_owned(),
            detector: "classical".to_owned(),
            methods: methods.into(),
            method: "biharmonic".to_owned(),
            loras: vec![LoraChoice { name: "faces".to_owned(), weight: 0.8 }],
            prompt: "a photograph".to_owned(),
            negative_prompt: "cracks".to_owned(),
            steps: 30,
            strength: None,
            guidance: 4.0,
            seed: 0,
        }
    }

    fn evidence(&self, _: &Image, _: &dyn Observer) -> imaging::Result<Option<Plane<u8>>> {
        Ok(None)
    }

    fn detect(
        &self,
        image: &Image,
        _: Option<&Plane<u8>>,
        sensitivity: f32,
        observer: &dyn Observer,
    ) -> imaging::Result<Mask> {
        let params = classical_params(&DetectParams::default(), sensitivity);
        Ok(params.detect(image, observer)?.mask)
    }

    fn check(&self, choices: &Choices) -> imaging::Result<()> {
        let about = self.about();
        let method = choices.method.as_ref().unwrap_or(&about.method);
        if !about.methods.iter().any(|known| known.name == *method) {
            return Err(ImagingError::argument("method", "one that there is", method));
        }
        for lora in choices.loras.iter().flatten() {
            if lora.name != "faces" {
                return Err(ImagingError::argument("loras", "faces", &lora.name));
            }
        }
        Ok(())
    }

    fn repaint(
        &self,
        image: &mut Image,
        weights: &Mask,
        choices: &Choices,
        observer: &dyn Observer,
    ) -> imaging::Result<()> {
        {
            let mut running = self.running.lock().expect("not poisoned");
            running.1 += 1;
            running.0 = running.0.max(running.1);
        }
        let done = self.work(image, weights, choices, observer);
        self.running.lock().expect("not poisoned").1 -= 1;
        done
    }

    fn command(&self, choices: &Choices, input: &str, mask: Option<&str>) -> Vec<String> {
        let mut words: Vec<String> = ["photomend", "restore", input].map(str::to_owned).into();
        words.extend(mask.map(|mask| format!("--mask={mask}")));
        words.extend(choices.prompt.clone());
        words
    }
}

impl TestEngine {
    fn work(
        &self,
        image: &mut Image,
        weights: &Mask,
        choices: &Choices,
        observer: &dyn Observer,
    ) -> imaging::Result<()> {
        let mut fill = FillOptions::default();
        match choices.method.as_deref() {
            Some("telea") => fill.method = FillMethod::Telea,
            Some("panics") => panic!("a defect"),
            Some("fails") => return Err(ImagingError::Method("no such luck".into())),
            Some("slow") => {
                observer.progress("repaint", 1, 4);
                observer.window_step(Step { window: 1, windows: 2, step: 3, steps: 10 });
                observer.painted(image);
                self.gate.pass(observer)?;
            }
            _ => {}
        }
        fill.repaint(image, weights, observer).map(drop)
    }
}
