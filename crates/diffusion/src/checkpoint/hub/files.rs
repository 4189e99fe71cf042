//! Which files of a model repository make a checkpoint.
//!
//! The names and their order of preference are those of `diffusers.DiffusionPipeline.download`: safetensors before
//! pickles, a component's variant before its plain files. The safety checker and everything else is left out.

use super::super::folder::{STEMS, VARIANTS, names as weight_names};

/// Folders with weights.
const NETWORKS: [&str; 3] = ["text_encoder", "unet", "vae"];

/// Small files of a pipeline that are taken where they exist.
const SETTINGS: [&str; 8] = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer/added_tokens.json",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
];

/// Forms of weights, the preferred one first.
const EXTENSIONS: [&str; 2] = ["safetensors", "bin"];

/// What to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// Paths in the repository, sorted.
    pub(super) files: Vec<String>,
    /// True if the one file is the checkpoint, false if the folder is.
    pub(super) single_file: bool,
}

/// The files to take of those in `names`; the error says what is missing.
pub(super) fn choose(names: &[String], variant: Option<&str>) -> Result<Choice, String> {
    let has = |name: &str| names.iter().any(|known| known == name);
    if has("model_index.json") {
        let mut files: Vec<String> =
            SETTINGS.iter().filter(|name| has(name)).map(ToString::to_string).collect();
        let mut found_variant = variant.is_none();
        for network in NETWORKS {
            let config = format!("{network}/config.json");
            if !has(&config) {
                return Err(format!("expected {config}, found none"));
            }
            files.push(config);
            let (found, weights) = weights(names, &format!("{network}/"), variant)?;
            found_variant |= found.as_deref() == variant;
            files.extend(weights);
        }
        if !found_variant {
            let variant = variant.unwrap_or_default();
            return Err(format!("expected weights of the variant {variant}, found none"));
        }
        files.sort();
        return Ok(Choice { files, single_file: false });
    }
    if has("config.json") {
        let (_, mut files) = weights(names, "", variant)?;
        files.push("config.json".to_owned());
        files.sort();
        return Ok(Choice { files, single_file: false });
    }
    single_file(names)
}

/// The weights in one folder (`prefix` ends in a slash, or is empty), with the variant that they are of.
fn weights(
    names: &[String],
    prefix: &str,
    variant: Option<&str>,
) -> Result<(Option<String>, Vec<String>), String> {
    let inside: Vec<&str> = names.iter().filter_map(|name| name.strip_prefix(prefix)).collect();
    let asked = variant.map(Some);
    for variant in asked.into_iter().chain([None]).chain(VARIANTS.map(Some)) {
        for extension in EXTENSIONS {
            for stem in STEMS {
                for name in weight_names(stem, extension, variant) {
                    if !inside.contains(&name.as_str()) {
                        continue;
                    }
                    let mut files = vec![name];
                    if files[0].ends_with(".json") {
                        let shards = shards(&inside, stem, extension, variant)
                            .map_err(|problem| format!("{prefix}{}: {problem}", files[0]))?;
                        files.extend(shards);
                    }
                    let files = files.iter().map(|name| format!("{prefix}{name}")).collect();
                    return Ok((variant.map(str::to_owned), files));
                }
            }
        }
    }
    Err(format!("expected weights {prefix}*.safetensors or {prefix}*.bin, found none"))
}

/// The shards of one index, all of them.
fn shards(
    names: &[&str],
    stem: &str,
    extension: &str,
    variant: Option<&str>,
) -> Result<Vec<String>, String> {
    let mut total = 0;
    let mut found = Vec::new();
    for name in names {
        let Some(numbers) = shard_numbers(name, stem, extension, variant) else { continue };
        total = total.max(numbers);
        found.push((*name).to_owned());
    }
    if found.is_empty() || found.len() < total {
        return Err(format!("expected {} shards, found {}", total.max(1), found.len()));
    }
    Ok(found)
}

/// How many shards there are, by the name of one: `stem-00001-of-00002.safetensors` says 2.
fn shard_numbers(name: &str, stem: &str, extension: &str, variant: Option<&str>) -> Option<usize> {
    let rest = name.strip_prefix(stem)?.strip_suffix(extension)?.strip_suffix('.')?;
    let numbers = match variant {
        None => rest,
        // Today's spelling has the variant first, the older one last.
        Some(variant) => rest
            .strip_prefix('.')
            .and_then(|rest| rest.strip_prefix(variant))
            .or_else(|| rest.strip_suffix(variant)?.strip_suffix('.'))?,
    };
    let (number, total) = numbers.strip_prefix('-')?.split_once("-of-")?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(number) && digits(total)).then(|| total.parse().ok())?
}

/// The one checkpoint or LoRA at the root of a repository.
fn single_file(names: &[String]) -> Result<Choice, String> {
    let root = |extension: &str| -> Vec<&String> {
        names.iter().filter(|name| !name.contains('/') && name.ends_with(extension)).collect()
    };
    for extension in [".safetensors", ".ckpt"] {
        match root(extension).as_slice() {
            [] => {}
            [only] => {
                return Ok(Choice { files: vec![(*only).clone()], single_file: true });
            }
            several => {
                let list: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
                let list = list.join(", ");
                return Err(format!(
                    "several checkpoints: {list}; add one to the id, as OWNER/NAME/FILE"
                ));
            }
        }
    }
    Err("expected model_index.json, config.json or one checkpoint file, found none".to_owned())
}

/// Where the weights of each network may be, for a server that does not list a repository: whole files only.
pub(super) fn candidates(network: &str, variant: Option<&str>) -> Vec<String> {
    let mut names = Vec::new();
    let asked = variant.map(Some);
    for variant in asked.into_iter().chain([None]).chain(VARIANTS.map(Some)) {
        for extension in EXTENSIONS {
            for stem in STEMS {
                let found = weight_names(stem, extension, variant);
                names.extend(found.iter().take(1).map(|name| format!("{network}/{name}")));
            }
        }
    }
    names
}

/// The settings and configurations of a pipeline, and its networks.
pub(super) fn settings() -> (Vec<String>, [&'static str; 3]) {
    let configs = NETWORKS.iter().map(|network| format!("{network}/config.json"));
    (SETTINGS.iter().map(ToString::to_string).chain(configs).collect(), NETWORKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &str) -> Vec<String> {
        list.split_whitespace().map(str::to_owned).collect()
    }

    /// runwayml/stable-diffusion-inpainting, and what is left out of it.
    const PIPELINE: &str = "README.md model_index.json sd-v1-5-inpainting.ckpt feature_extractor/preprocessor_config.json \
        safety_checker/config.json safety_checker/model.safetensors scheduler/scheduler_config.json \
        text_encoder/config.json text_encoder/model.safetensors text_encoder/pytorch_model.bin \
        text_encoder/model.fp16.safetensors tokenizer/merges.txt tokenizer/vocab.json unet/config.json \
        unet/diffusion_pytorch_model.bin unet/diffusion_pytorch_model.safetensors \
        unet/diffusion_pytorch_model.fp16.safetensors unet/diffusion_pytorch_model.fp16.bin vae/config.json \
        vae/diffusion_pytorch_model.bin";

    #[test]
    fn a_pipeline_is_taken_without_what_it_does_not_need() {
        let choice = choose(&names(PIPELINE), None).unwrap();
        assert!(!choice.single_file);
        assert_eq!(
            choice.files,
            names(
                "model_index.json scheduler/scheduler_config.json text_encoder/config.json \
                 text_encoder/model.safetensors tokenizer/merges.txt tokenizer/vocab.json unet/config.json \
                 unet/diffusion_pytorch_model.safetensors vae/config.json vae/diffusion_pytorch_model.bin"
            )
        );
    }

    #[test]
    fn a_variant_is_taken_where_there_is_one() {
        let choice = choose(&names(PIPELINE), Some("fp16")).unwrap();
        let weights: Vec<_> = choice.files.iter().filter(|name| name.contains("model.")).collect();
        assert_eq!(
            weights,
            [
                "text_encoder/model.fp16.safetensors",
                "unet/diffusion_pytorch_model.fp16.safetensors",
                "vae/diffusion_pytorch_model.bin"
            ]
        );
        let error = choose(&names(PIPELINE), Some("bf16")).unwrap_err();
        assert!(error.contains("variant bf16"), "{error}");
    }

    #[test]
    fn shards_come_with_their_index_and_all_of_them() {
        let sharded = "config.json diffusion_pytorch_model.safetensors.index.json \
            diffusion_pytorch_model-00001-of-00002.safetensors diffusion_pytorch_model-00002-of-00002.safetensors \
            diffusion_pytorch_model.fp16-00001-of-00002.safetensors";
        assert_eq!(choose(&names(sharded), None).unwrap().files.len(), 4);
        let error = choose(&names(&sharded.replace("00002-of-00002", "x")), None).unwrap_err();
        assert!(error.contains("expected 2 shards, found 1"), "{error}");
        let old =
            "config.json model.safetensors.index.fp16.json model-00001-of-00001.fp16.safetensors";
        assert_eq!(choose(&names(old), Some("fp16")).unwrap().files.len(), 3);
    }

    #[test]
    fn a_lone_file_is_a_checkpoint() {
        let choice = choose(&names("README.md v1-5.ckpt v1-5.safetensors"), None).unwrap();
        assert_eq!(choice, Choice { files: names("v1-5.safetensors"), single_file: true });
        let error = choose(&names("a.safetensors b.safetensors"), None).unwrap_err();
        assert!(error.contains("a.safetensors, b.safetensors"), "{error}");
        assert!(choose(&names("README.md"), None).is_err());
    }

    #[test]
    fn missing_weights_are_named() {
        let error = choose(&names("model_index.json text_encoder/config.json"), None).unwrap_err();
        assert!(error.contains("text_encoder/*.safetensors"), "{error}");
    }
}
