//! Progress of long work, shown on a terminal only.

use std::future::Future;
use std::time::Duration;

use async_io::Timer;
use futures_lite::future;
use indicatif::{ProgressBar, ProgressStyle};

use crate::wire::api::{Amount, Event, Failure, Folder, JoinStep, Request, Stamped};

use super::client::{ANSWER_TIME_MAX, Client};
use super::screen::{self, Screen};

/// How often the folders are asked for what is missing while somebody watches.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// A line that shows that something goes on; nothing where nobody watches. It vanishes when dropped.
pub(super) struct Activity {
    bar: ProgressBar,
}

impl Activity {
    pub(super) fn start(screen: &Screen, text: &str) -> Self {
        let bar = if screen.is_watched() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        bar.set_message(text.to_string());
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar }
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A bar whose length is not known yet.
fn gauge(text: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template("{spinner} {bar:30} {msg}").expect("the template is constant"));
    bar.enable_steady_tick(Duration::from_millis(120));
    bar.set_message(text);
    bar
}

/// Shows how far a `join` is while `work` does it.
pub(super) async fn joining<T>(
    screen: &Screen,
    client: &Client,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    if !screen.is_watched() {
        return work.await;
    }
    let shown = Activity::start(screen, "looking for the machine that shows this code ...");
    let steps = async {
        if let Ok(mut events) = client.follow().await {
            while let Ok(Some(line)) = events.next().await {
                if let Ok(Stamped { event: Event::Joining { step }, .. }) = serde_json::from_str(&line) {
                    shown.bar.set_message(match step {
                        JoinStep::Searching => "looking for the machine that shows this code ...",
                        JoinStep::Connecting => "found it, connecting ...",
                        JoinStep::Confirming => "proving the code to each other ...",
                        JoinStep::Admitted => "admitted, taking over rules and folders ...",
                    });
                }
            }
        }
        future::pending().await
    };
    future::or(work, steps).await
}

/// Shows how far the archive is while `work` waits for it.
pub(super) async fn archiving<T>(
    screen: &Screen,
    client: &Client,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    if !screen.is_watched() {
        return work.await;
    }
    let bar = gauge("waiting ...");
    let steps = async {
        if let Ok(mut events) = client.follow().await {
            while let Ok(Some(line)) = events.next().await {
                if let Ok(Stamped { event: Event::Archive { doing, done, total }, .. }) = serde_json::from_str(&line) {
                    bar.set_length(total.max(done));
                    bar.set_position(done);
                    bar.set_message(format!("{}, {} ...", screen::plain(&doing), screen::bytes(done)));
                }
            }
        }
        future::pending().await
    };
    let done = future::or(work, steps).await;
    bar.finish_and_clear();
    done
}

/// Shows what is missing in `folder`, or in all, while `work` waits for it.
pub(super) async fn receiving<T>(
    screen: &Screen,
    client: &Client,
    folder: Option<&str>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    if !screen.is_watched() {
        return work.await;
    }
    let bar = gauge("waiting for the others ...");
    let looks = async {
        let mut most = 0;
        loop {
            let folders: Result<Vec<Folder>, Failure> = client.ask(&Request::Folders, Some(ANSWER_TIME_MAX)).await;
            let Ok(folders) = folders else { break };
            let need = missing(&folders, folder);
            most = most.max(need.bytes);
            bar.set_length(most);
            bar.set_position(most - need.bytes);
            bar.set_message(match need.files {
                0 => "waiting for the others ...".into(),
                files => format!("{} to come, {}", screen::count(files, "file"), screen::bytes(need.bytes)),
            });
            Timer::after(LOOK_EVERY).await;
        }
        future::pending().await
    };
    let done = future::or(work, looks).await;
    bar.finish_and_clear();
    done
}

fn missing(folders: &[Folder], only: Option<&str>) -> Amount {
    let counted = folders.iter().filter(|folder| only.is_none_or(|only| folder.name == only || folder.id == only));
    counted.fold(Amount::default(), |sum, folder| Amount {
        files: sum.files.saturating_add(folder.need.files),
        bytes: sum.bytes.saturating_add(folder.need.bytes),
    })
}
