//! Tasks as JSON: what a person writes, what a file of a task shows, and what is stored.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Convert, ImportPath, Task, TaskInput, TaskResult};
use crate::image::{DetailFault, Details, DiskFormat, ImageId, ImageName};

/// What a person asks for. An image is named by its id or, in `active/`, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Take in a file below an allowed root.
    Import(ImportPath),
    /// Make an image in another format of the one that is named.
    Convert {
        /// The image as it was named.
        image: String,
        /// The format.
        to: DiskFormat,
        /// The name of the new image.
        name: ImageName,
    },
    /// Read an image, or all of them, and hash again.
    Verify {
        /// The image as it was named; none for all.
        image: Option<String>,
    },
    /// Purge what is due.
    Scrub,
}

/// Why a text is not a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a file that is written to `tasks/pending/` says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    input: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportRequest {
    import_from: String,
    #[serde(default)]
    image_properties: Properties,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Properties {
    name: Option<String>,
    disk_format: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    min_disk: Option<u32>,
    min_ram: Option<u32>,
    #[serde(default)]
    properties: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VerifyRequest {
    image: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConvertRequest {
    image: String,
    to: String,
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScrubRequest {}

/// The input of a task as it is stored and shown.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Input {
    ImportPath {
        import_from: String,
        image_properties: StoredProperties,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        author_groups: Vec<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        image: Option<String>,
    },
    ImportStaged {
        import_staged: String,
    },
    Convert {
        convert: String,
        to: String,
        name: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        author_groups: Vec<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        image: Option<String>,
    },
    Scrub {
        scrub: Due,
    },
    Verify {
        #[serde(skip_serializing_if = "Option::is_none")]
        image: Option<String>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredProperties {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_format: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_disk: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_ram: Option<u32>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    properties: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Due {
    Due,
}

/// The result of a task as it is stored and shown.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Outcome {
    Imported { image: String },
    Verified { contents: u64, size_bytes: u64, damaged: u64 },
    Scrubbed { images: u64 },
}

/// A task as its file shows it.
#[derive(Debug, Serialize)]
struct Record<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    status: &'static str,
    owner: u32,
    input: Input,
    result: Option<Outcome>,
    message: Option<&'a str>,
    progress: u8,
    created_at: String,
    updated_at: String,
    expires_at: Option<String>,
    attempts: u32,
}

/// Reads what a person wrote.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse_order(text: &str) -> Result<Order, Fault> {
    let fault = |error: serde_json::Error| Fault(error.to_string());
    let request: Request = serde_json::from_str(text).map_err(fault)?;
    let input = serde_json::Value::Object(request.input);
    match request.kind.as_str() {
        "import" => import(serde_json::from_value(input).map_err(fault)?).map(Order::Import),
        "convert" => convert(serde_json::from_value(input).map_err(fault)?),
        "verify" => {
            let verify: VerifyRequest = serde_json::from_value(input).map_err(fault)?;
            Ok(Order::Verify { image: verify.image })
        }
        "scrub" => {
            let _: ScrubRequest = serde_json::from_value(input).map_err(fault)?;
            Ok(Order::Scrub)
        }
        other => Err(Fault(format!(
            "there is no task type {other:?}: there are import, convert, verify, scrub"
        ))),
    }
}

fn import(request: ImportRequest) -> Result<ImportPath, Fault> {
    let path = Path::new(&request.import_from);
    if !path.is_absolute() {
        return Err(Fault("import_from is an absolute path".into()));
    }
    let own = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let name = request.image_properties.name.clone().or(own);
    let name = name.ok_or_else(|| Fault("import_from does not name a file".into()))?;
    let name = ImageName::new(name.as_bytes()).map_err(|fault| Fault(fault.to_string()))?;
    let format = request.image_properties.disk_format.as_deref();
    let disk_format = format
        .map(|format| {
            DiskFormat::from_name(format)
                .ok_or_else(|| Fault(format!("there is no disk_format {format:?}")))
        })
        .transpose()?;
    let said = request.image_properties;
    let details = details(&said.tags, &said.properties, (said.min_disk, said.min_ram));
    let details = details.map_err(|fault| Fault(fault.to_string()))?;
    Ok(ImportPath {
        from: request.import_from,
        name,
        disk_format,
        details,
        groups: Vec::new(),
        image: None,
    })
}

fn details(
    tags: &[String],
    properties: &BTreeMap<String, String>,
    (min_disk, min_ram): (Option<u32>, Option<u32>),
) -> Result<Details, DetailFault> {
    let mut details = Details::default();
    details.set_tags(&tags.join(","))?;
    for (key, value) in properties {
        details.set_property(key, value)?;
    }
    (details.min_disk, details.min_ram) = (min_disk, min_ram);
    Ok(details)
}

/// What a new image can be converted to.
const TARGETS: [DiskFormat; 6] = [
    DiskFormat::Raw,
    DiskFormat::Qcow2,
    DiskFormat::Vmdk,
    DiskFormat::Vdi,
    DiskFormat::Vhd,
    DiskFormat::Vhdx,
];

fn convert(request: ConvertRequest) -> Result<Order, Fault> {
    let to = TARGETS.into_iter().find(|format| format.name() == request.to).ok_or_else(|| {
        let names: Vec<&str> = TARGETS.into_iter().map(DiskFormat::name).collect();
        Fault(format!("nothing is converted to {:?}: there are {}", request.to, names.join(", ")))
    })?;
    let name = ImageName::new(request.name.as_bytes()).map_err(|fault| Fault(fault.to_string()))?;
    Ok(Order::Convert { image: request.image, to, name })
}

/// The input as JSON.
pub(super) fn render_input(input: &TaskInput) -> String {
    serde_json::to_string(&input_of(input)).unwrap_or_default()
}

fn input_of(input: &TaskInput) -> Input {
    match input {
        TaskInput::ImportStaged { image } => {
            Input::ImportStaged { import_staged: image.to_string() }
        }
        TaskInput::ImportPath(import) => Input::ImportPath {
            import_from: import.from.clone(),
            image_properties: StoredProperties {
                name: import.name.to_string(),
                disk_format: import.disk_format.map(|format| format.name().to_owned()),
                tags: import.details.tags().to_vec(),
                min_disk: import.details.min_disk,
                min_ram: import.details.min_ram,
                properties: import
                    .details
                    .properties()
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect(),
            },
            author_groups: import.groups.clone(),
            image: import.image.map(|image| image.to_string()),
        },
        TaskInput::Convert(convert) => Input::Convert {
            convert: convert.source.to_string(),
            to: convert.to.name().to_owned(),
            name: convert.name.to_string(),
            author_groups: convert.groups.clone(),
            image: convert.image.map(|image| image.to_string()),
        },
        TaskInput::Verify { image } => {
            Input::Verify { image: image.map(|image| image.to_string()) }
        }
        TaskInput::Scrub => Input::Scrub { scrub: Due::Due },
    }
}

/// The input that a stored text says.
pub(super) fn parse_input(text: &str) -> Option<TaskInput> {
    let id = |text: String| ImageId::parse(&text);
    match serde_json::from_str(text).ok()? {
        Input::ImportStaged { import_staged } => {
            Some(TaskInput::ImportStaged { image: id(import_staged)? })
        }
        Input::ImportPath { import_from, image_properties, author_groups, image } => {
            Some(TaskInput::ImportPath(ImportPath {
                from: import_from,
                name: ImageName::new(image_properties.name.as_bytes()).ok()?,
                disk_format: image_properties
                    .disk_format
                    .as_deref()
                    .and_then(DiskFormat::from_name),
                details: details(
                    &image_properties.tags,
                    &image_properties.properties,
                    (image_properties.min_disk, image_properties.min_ram),
                )
                .ok()?,
                groups: author_groups,
                image: image.and_then(id),
            }))
        }
        Input::Convert { convert, to, name, author_groups, image } => {
            Some(TaskInput::Convert(Convert {
                source: id(convert)?,
                to: DiskFormat::from_name(&to)?,
                name: ImageName::new(name.as_bytes()).ok()?,
                groups: author_groups,
                image: image.and_then(id),
            }))
        }
        Input::Scrub { scrub: Due::Due } => Some(TaskInput::Scrub),
        Input::Verify { image } => Some(TaskInput::Verify { image: image.and_then(id) }),
    }
}

/// The result as JSON.
pub(super) fn render_result(result: &TaskResult) -> String {
    serde_json::to_string(&outcome_of(result)).unwrap_or_default()
}

fn outcome_of(result: &TaskResult) -> Outcome {
    match *result {
        TaskResult::Imported { image } => Outcome::Imported { image: image.to_string() },
        TaskResult::Verified { contents, size_bytes, damaged } => {
            Outcome::Verified { contents, size_bytes, damaged }
        }
        TaskResult::Scrubbed { images } => Outcome::Scrubbed { images },
    }
}

/// The result that a stored text says.
pub(super) fn parse_result(text: &str) -> Option<TaskResult> {
    match serde_json::from_str(text).ok()? {
        Outcome::Imported { image } => {
            ImageId::parse(&image).map(|image| TaskResult::Imported { image })
        }
        Outcome::Verified { contents, size_bytes, damaged } => {
            Some(TaskResult::Verified { contents, size_bytes, damaged })
        }
        Outcome::Scrubbed { images } => Some(TaskResult::Scrubbed { images }),
    }
}

/// The record as the file of the task shows it.
pub(super) fn render(task: &Task) -> String {
    let record = Record {
        id: task.id.to_string(),
        kind: task.input.kind(),
        status: task.status.name(),
        owner: task.ownership.uid,
        input: input_of(&task.input),
        result: task.result.as_ref().map(outcome_of),
        message: task.message.as_deref(),
        progress: task.progress,
        created_at: task.created_at.to_string(),
        updated_at: task.updated_at.to_string(),
        expires_at: task.expires_at.map(|at| at.to_string()),
        attempts: task.attempts,
    };
    let mut text = serde_json::to_string_pretty(&record).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_back() {
        let name = ImageName::new(b"x").expect("a name");
        let image = ImageId::random();
        let import = ImportPath {
            from: "/srv/x".into(),
            name,
            disk_format: Some(DiskFormat::Qcow2),
            details: details(
                &["lts".into()],
                &BTreeMap::from([("os".into(), "debian".into())]),
                (Some(1), None),
            )
            .expect("details"),
            groups: vec![7, 61_001],
            image: Some(image),
        };
        let inputs = [
            TaskInput::ImportStaged { image },
            TaskInput::ImportPath(ImportPath { disk_format: None, image: None, ..import.clone() }),
            TaskInput::ImportPath(import),
            TaskInput::Convert(Convert {
                source: image,
                to: DiskFormat::Vhd,
                name: ImageName::new(b"y").expect("a name"),
                groups: vec![7, 61_001],
                image: Some(ImageId::random()),
            }),
            TaskInput::Verify { image: Some(image) },
            TaskInput::Verify { image: None },
            TaskInput::Scrub,
        ];
        for input in inputs {
            assert_eq!(parse_input(&render_input(&input)), Some(input));
        }
        let results = [
            TaskResult::Imported { image },
            TaskResult::Verified { contents: 1, size_bytes: 2, damaged: 3 },
            TaskResult::Scrubbed { images: 4 },
        ];
        for result in results {
            assert_eq!(parse_result(&render_result(&result)), Some(result));
        }
    }

    #[test]
    fn what_is_no_task_is_told_what_is_wrong() {
        let cases = [
            ("", "EOF"),
            ("{", "EOF"),
            ("[]", "invalid"),
            (r#"{"type": "transmute"}"#, "no task type"),
            (r#"{"type": "convert", "input": {}}"#, "missing field `image`"),
            (
                r#"{"type": "convert", "input": {"image": "a", "to": "iso", "name": "b"}}"#,
                "there are raw",
            ),
            (r#"{"type": "convert", "input": {"image": "a", "to": "raw", "name": ""}}"#, "name"),
            (r#"{"input": {}}"#, "missing field `type`"),
            (r#"{"type": "import", "input": {}}"#, "missing field `import_from`"),
            (r#"{"type": "import", "input": {"import_from": "x"}}"#, "absolute"),
            (r#"{"type": "import", "input": {"import_from": "/"}}"#, "name a file"),
            (
                r#"{"type": "import", "input": {"import_from": "/x", "image_properties": {"disk_format": "doc"}}}"#,
                "disk_format",
            ),
            (
                r#"{"type": "import", "input": {"import_from": "/x", "image_properties": {"tags": ["a,,b"]}}}"#,
                "a tag has",
            ),
            (r#"{"type": "verify", "input": {"images": "x"}}"#, "unknown field"),
            (r#"{"type": "scrub", "input": {"x": 1}}"#, "unknown field"),
            (r#"{"type": "scrub", "colour": 1}"#, "unknown field"),
        ];
        for (text, word) in cases {
            let fault = parse_order(text).expect_err(text).to_string();
            assert!(fault.contains(word), "{text}: {fault}");
        }
        assert_eq!(parse_order(r#"{"type": "scrub"}"#), Ok(Order::Scrub));
    }
}
