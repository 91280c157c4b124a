//! Pages of tags: for each the `Link` header in one line and the body up to the next NUL.

#![no_main]

use libfuzzer_sys::fuzz_target;
use samovar_fuzz::{first_line, within};
use samovar_registry::fuzzing::TagPages;

fuzz_target!(|data: &[u8]| {
    within(128, data.len(), || {
        let mut pages = TagPages::new();
        for page in data.split(|byte| *byte == 0) {
            let (link, body) = first_line(page);
            let Ok(link) = str::from_utf8(link) else { return };
            match pages.accept(body, (!link.is_empty()).then_some(link)) {
                Ok(Some(query)) => assert!(!query.is_empty() && link.contains(&query)),
                Ok(None) => break,
                Err(error) => {
                    samovar_fuzz::assert_presentable(&error);
                    return;
                }
            }
        }
        let list = pages.into_list();
        assert!(list.tags.is_sorted() && list.tags.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(
            list.tags.iter().map(|tag| tag.as_str().len() + 2).sum::<usize>() + list.invalid <= data.len()
        );
    });
});
