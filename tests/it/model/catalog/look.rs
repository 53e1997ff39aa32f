//! All that can be seen of the catalog, held against the model.

use sps::image::{Content, Image, ImageName, ImageNumber};
use sps::lifecycle::Status;
use sps::store::StoreFile;

use super::Rig;
use crate::model::spec::Seen;
use crate::support::digest_of;

impl Rig {
    pub(super) fn compare(&self) {
        let mut all = Vec::new();
        for status in Status::ALL {
            let page =
                self.catalog().page(Some(status), ImageNumber::new(0), 1_000).expect("a page");
            for listed in &page {
                let image = &listed.image;
                let name = self.catalog().listed_name(image).expect("a name");
                assert_eq!(name != image.name.as_str(), listed.is_shadowed, "{name}");
                let (plain, prefix) = ImageName::parse_listed(name.as_bytes()).expect("listed");
                let found = self.catalog().find(status, &plain, prefix).expect("asked");
                assert_eq!(found.as_ref(), Some(image), "{name} is who is found by that name");
                all.push(self.seen(image, name));
            }
            let names =
                self.catalog().names(Some(status), ImageNumber::new(0), 1_000).expect("names");
            let names: Vec<_> = names.into_iter().map(|name| (name.id, name.is_shadowed)).collect();
            let same: Vec<_> = page.iter().map(|all| (all.image.id, all.is_shadowed)).collect();
            assert_eq!(names, same, "the two ways to list {status}");
        }
        all.sort();
        assert_eq!(all, self.model.seen(), "left is the catalog, right is the model");
    }

    fn seen(&self, image: &Image, listed: String) -> Seen {
        let is_coming = image.status.publication().is_some() || image.status.is_staging();
        let upload = self.catalog().upload_of(image.id).filter(|_| is_coming);
        let staged = || self.catalog().open_staged(image).expect("readable");
        let size = match (&upload, &image.content) {
            (Some(upload), _) => upload.live().size_bytes,
            (None, Content::Sealed(seal) | Content::Gone(seal)) => seal.size_bytes,
            (None, Content::Located(located)) => located.fingerprint.size_bytes,
            (None, Content::Absent | Content::Staged) if image.status.keeps_staged_data() => {
                staged().map_or(0, |file| file.size_bytes().expect("readable"))
            }
            (None, Content::Absent | Content::Staged) => 0,
        };
        let read = |file: &StoreFile| {
            let mut data = vec![0; usize::try_from(size).expect("small") + 1];
            let mut length = 0;
            while let Ok(count @ 1..) = file.read_at(length as u64, &mut data[length..]) {
                length += count;
            }
            digest_of(&data[..length])
        };
        let content = match image.status {
            Status::Active | Status::Deactivated => {
                Some(read(&self.catalog().open_sealed(image).expect("readable")))
            }
            Status::Uploading => Some(staged().map_or_else(|| digest_of(b""), |file| read(&file))),
            Status::Queued => Some(digest_of(b"")),
            _ => None,
        };
        Seen {
            status: image.status.name(),
            listed,
            id: image.id.to_string(),
            size,
            digest: image.content.digest().map(|digest| digest.to_string()),
            content,
            has_message: image.message.is_some(),
            owner: image.ownership.uid,
            mode: image.ownership.mode,
            tags: image.details.tags().to_vec(),
            location: image.content.located().map(|located| located.path.clone()),
        }
    }
}
