//! `run.toml`: the settings of a run, or of several that share most of them.
//!
//! The tables are those of [`TrainOptions`]. A file may end with `[[runs]]`, each with a `name` and the settings in which that run
//! differs:
//!
//! ```toml
//! [optimizer]
//! learning_rate = 1e-4
//!
//! [[runs]]
//! name = "rank-4"
//! network.rank = 4
//!
//! [[runs]]
//! name = "rank-16"
//! network.rank = 16
//! ```

use toml::{Table, Value};

use super::settings::TrainOptions;
use crate::error::{DiffusionError, Result};

/// One run of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedRun {
    /// Its name, and the folder that it is written to inside the output folder; `None` if the file is one run.
    pub name: Option<String>,
    /// Its settings.
    pub options: TrainOptions,
}

impl TrainOptions {
    /// `run.toml`.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] if a value cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self)
            .map_err(|error| DiffusionError::argument("settings", "values that TOML has", error))
    }

    /// Reads the runs of a file, at least one; settings that it does not name are as in `self`.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] naming what does not fit.
    pub fn read_runs(&self, text: &str) -> Result<Vec<NamedRun>> {
        let mut file: Table = toml::from_str(text).map_err(|error| refused(&error))?;
        let runs = file.remove("runs");
        let mut shared = Table::try_from(self)
            .map_err(|error| DiffusionError::argument("settings", "values that TOML has", error))?;
        overlay(&mut shared, file);
        let Some(runs) = runs else {
            return Ok(vec![NamedRun { name: None, options: parse(shared)? }]);
        };
        let expected = "tables [[runs]], each with a name of its own that can be a folder's";
        let wrong =
            |found: &dyn std::fmt::Display| DiffusionError::argument("runs", expected, found);
        let Value::Array(runs) = runs else { return Err(wrong(&runs)) };
        let mut named: Vec<NamedRun> = Vec::new();
        for run in runs {
            let Value::Table(mut own) = run else { return Err(wrong(&run)) };
            let name = match own.remove("name") {
                Some(Value::String(name)) if is_folder_name(&name) => name,
                Some(other) => return Err(wrong(&other)),
                None => return Err(wrong(&"one without a name")),
            };
            if named.iter().any(|run| run.name.as_ref() == Some(&name)) {
                return Err(wrong(&format!("{name:?} twice")));
            }
            let mut all = shared.clone();
            overlay(&mut all, own);
            named.push(NamedRun { name: Some(name), options: parse(all)? });
        }
        if named.is_empty() { Err(wrong(&"none")) } else { Ok(named) }
    }
}

fn is_folder_name(name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 100 && name.chars().all(plain) && !name.starts_with('.')
}

fn parse(table: Table) -> Result<TrainOptions> {
    table.try_into().map_err(|error| refused(&error))
}

/// What toml says, on one line.
pub(super) fn refused(error: &toml::de::Error) -> DiffusionError {
    let text = error.to_string();
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    DiffusionError::argument("run file", "the settings of a run in TOML", lines.join("; "))
}

/// Puts `over` on top of `under`, table by table.
fn overlay(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => overlay(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_go_to_toml_and_back() {
        for options in [TrainOptions::default(), TrainOptions::baseline()] {
            let text = options.to_toml().unwrap();
            let read = TrainOptions::default().read_runs(&text).unwrap();
            assert_eq!(read, [NamedRun { name: None, options }], "{text}");
        }
        let short = "[optimizer]\nlearning_rate = 2e-4\n";
        let read = TrainOptions::baseline().read_runs(short).unwrap().remove(0).options;
        assert_eq!(read.optimizer.learning_rate, 2e-4);
        assert_eq!(read.run, TrainOptions::baseline().run);
    }

    #[test]
    fn several_runs_share_what_they_do_not_say() {
        let text = "[network]\nrank = 2\ndropout = 0.5\n[[runs]]\nname = \"a\"\n[[runs]]\nname = \"b\"\nnetwork.rank = 9\n";
        let runs = TrainOptions::default().read_runs(text).unwrap();
        let found: Vec<_> = runs
            .iter()
            .map(|run| (run.name.as_deref(), run.options.network.rank, run.options.network.dropout))
            .collect();
        assert_eq!(found, [(Some("a"), 2, 0.5), (Some("b"), 9, 0.5)]);
    }

    #[test]
    fn what_is_no_setting_is_named() {
        for (text, word) in [
            ("[optimizer]\nlearning_rat = 1", "learning_rat"),
            ("[optimizer]\nlr_scheduler = \"step\"", "step"),
            ("[network", "network"),
            ("[run]\nseed = -1", "-1"),
            ("runs = 3", "3"),
            ("[[runs]]\nnetwork.rank = 3", "without a name"),
            ("[[runs]]\nname = \"../x\"", "../x"),
            ("[[runs]]\nname = \"x\"\n[[runs]]\nname = \"x\"", "twice"),
        ] {
            let error = TrainOptions::default().read_runs(text).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains('\n'), "{error}");
        }
    }
}
