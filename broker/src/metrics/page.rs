//! The metrics page as it is handed out: built on a thread of its own, one at a time, and handed out again for a while, so that
//! however many scrapers there are cost the broker one part in ten of that thread. What stands on it is decided in `metrics`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Sources;

/// A page is handed out again for so many times the time that it took to build, ...
const REST_FACTOR: u32 = 9;
/// ... but no longer than this, so that it does not mislead.
const AGE_MAX: Duration = Duration::from_secs(10);

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Pages {
    sources: Arc<Sources>,
    thread: Handle,
    last: Arc<Mutex<Option<Page>>>,
}

#[derive(Debug, Clone)]
struct Page {
    text: Bytes,
    good_until: Instant,
}

impl Pages {
    /// Pages from these sources, built on this thread.
    pub(crate) fn new(sources: Arc<Sources>, thread: Handle) -> Self {
        Self { sources, thread, last: Arc::default() }
    }

    /// The page as it is now, or as it was a moment ago.
    ///
    /// # Errors
    /// With a text for people.
    pub(crate) async fn get(&self) -> Result<Bytes, String> {
        let pages = self.clone();
        let built = self.thread.spawn(async move { pages.built().await }).await;
        built.map_err(|error| format!("the page was not built: {error}"))?
    }

    async fn built(&self) -> Result<Bytes, String> {
        // Who comes while it is built waits for it and takes the same.
        let mut last = self.last.lock().await;
        let begun = Instant::now();
        if let Some(page) = last.as_ref().filter(|page| begun < page.good_until) {
            return Ok(page.text.clone());
        }
        let text = self.sources.page().await.map_err(|error| error.to_string())?;
        let page = Page { text: text.into(), good_until: good_until(begun, Instant::now()) };
        Ok(last.insert(page).text.clone())
    }
}

fn good_until(begun: Instant, ended: Instant) -> Instant {
    ended + (ended - begun).saturating_mul(REST_FACTOR).min(AGE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_took_long_is_handed_out_for_longer() {
        let now = Instant::now();
        let good_for = |ms| good_until(now, now + Duration::from_millis(ms)) - now;
        assert_eq!(good_for(2), Duration::from_millis(20));
        assert_eq!(good_for(100), Duration::from_secs(1));
        assert_eq!(good_for(60_000), Duration::from_secs(70));
    }
}
