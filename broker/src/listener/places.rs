//! The places of a port: who is connected, from where, and who gives way when all are taken. Nobody keeps others out by
//! being silent: the connection without an open call whose last call is the longest ago makes room for a new one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// One address may have one part in so many of a port's connections: behind it may stand a whole site.
const SOURCE_PART: usize = 2;
/// Leading bits of an IPv6 address that tell one site from another.
const SITE_BITS: u32 = 64;

/// All places of one port.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    source_max: usize,
    /// Times are counted from here.
    begun: Instant,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// Whether a proxy has not said yet from where one comes, its source is none.
    guests: HashMap<u64, (Option<IpAddr>, Arc<Guest>)>,
    by_source: HashMap<IpAddr, usize>,
    next: u64,
}

#[derive(Debug)]
struct Guest {
    called_ms: AtomicU64,
    calls: TaskTracker,
    leave: CancellationToken,
}

/// The place of one connection; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    number: u64,
    guest: Arc<Guest>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// All are taken by connections with open calls.
    Port,
    /// The address of the client has all that one address may have, and uses them.
    Source,
}

/// Whether another connection gave way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    Made,
}

impl Places {
    /// `source_max`: of one address; none = half of all.
    pub(super) fn new(max: usize, source_max: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            max,
            source_max: source_max.unwrap_or_else(|| max.div_ceil(SOURCE_PART)),
            begun: Instant::now(),
            taken: Mutex::default(),
        })
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    pub(super) fn source_max(&self) -> usize {
        self.source_max
    }

    pub(super) fn taken(&self) -> usize {
        self.lock().guests.len()
    }

    /// A place for a connection from `address`; none when a proxy will say, see [`Place::comes_from`].
    ///
    /// # Errors
    /// [`Full`] when there is none and nobody gives way.
    pub(super) fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Result<(Place, Room), Full> {
        let mut taken = self.lock();
        let mut room = Room::Free;
        if let Some(address) = address {
            room = taken.make_room_of(site(address), self.source_max)?;
        }
        if taken.guests.len() >= self.max {
            taken.make_room(None).ok_or(Full::Port)?;
            room = Room::Made;
        }
        let number = taken.next;
        taken.next += 1;
        let guest = Arc::new(Guest {
            called_ms: AtomicU64::new(self.now_ms()),
            calls: TaskTracker::new(),
            leave: CancellationToken::new(),
        });
        taken.guests.insert(number, (None, Arc::clone(&guest)));
        if let Some(address) = address {
            taken.note_source(number, site(address));
        }
        drop(taken);
        Ok((Place { places: Arc::clone(self), number, guest }, room))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Each change is whole before anything could panic.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Room for one more from a source.
    fn make_room_of(&mut self, source: IpAddr, max: usize) -> Result<Room, Full> {
        if self.by_source.get(&source).copied().unwrap_or(0) < max {
            return Ok(Room::Free);
        }
        self.make_room(Some(source)).ok_or(Full::Source)?;
        Ok(Room::Made)
    }

    fn note_source(&mut self, number: u64, source: IpAddr) {
        if let Some((known, _)) = self.guests.get_mut(&number)
            && known.is_none()
        {
            *known = Some(source);
            *self.by_source.entry(source).or_default() += 1;
        }
    }

    /// Sends away who gives way, among those of a source or among all; none when all have calls open.
    fn make_room(&mut self, source: Option<IpAddr>) -> Option<()> {
        let quiet = |(of, guest): &(Option<IpAddr>, Arc<Guest>)| {
            (source.is_none() || *of == source) && guest.calls.is_empty()
        };
        let leaving = self.guests.iter().filter(|(_, guest)| quiet(guest));
        let leaving =
            leaving.min_by_key(|(n, (_, guest))| (guest.called_ms.load(Ordering::Relaxed), **n));
        let number = *leaving?.0;
        let guest = self.remove(number)?;
        guest.leave.cancel();
        Some(())
    }

    fn remove(&mut self, number: u64) -> Option<Arc<Guest>> {
        let (source, guest) = self.guests.remove(&number)?;
        if let Some(source) = source
            && let Some(count) = self.by_source.get_mut(&source)
        {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&source);
            }
        }
        Some(guest)
    }
}

impl Place {
    /// The calls that are open on the connection: while there are any, it does not give way.
    pub(crate) fn calls(&self) -> &TaskTracker {
        &self.guest.calls
    }

    /// A proxy said from where the connection comes.
    ///
    /// # Errors
    /// [`Full`] when there is no place for one more from there and nobody gives way.
    pub(super) fn comes_from(&self, address: IpAddr) -> Result<Room, Full> {
        let mut taken = self.places.lock();
        let room = taken.make_room_of(site(address), self.places.source_max)?;
        taken.note_source(self.number, site(address));
        Ok(room)
    }

    /// Takes note of a call that begins.
    pub(crate) fn called(&self) {
        self.guest.called_ms.store(self.places.now_ms(), Ordering::Relaxed);
    }

    /// Time since the last call began, or since the connection came.
    pub(crate) fn quiet_for(&self) -> Duration {
        let called_ms = self.guest.called_ms.load(Ordering::Relaxed);
        Duration::from_millis(self.places.now_ms().saturating_sub(called_ms))
    }

    /// Ends when the connection has to make room for another one.
    pub(crate) async fn gives_way(&self) {
        self.guest.leave.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().remove(self.number);
    }
}

/// An IPv6 site has more addresses than anybody could count.
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> SITE_BITS << SITE_BITS).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_was_quiet_for_the_longest_gives_way_and_callers_do_not() {
        let places = Places::new(3, None);
        let (busy, _) = places.take(address("10.0.0.1")).unwrap();
        let call = busy.calls().token();
        tokio::time::advance(Duration::from_secs(1)).await;
        let (quiet, _) = places.take(address("10.0.0.2")).unwrap();
        let (called, _) = places.take(address("10.0.0.3")).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        called.called();
        assert_eq!(quiet.quiet_for(), Duration::from_secs(1));
        let (next, room) = places.take(address("10.0.0.4")).unwrap();
        assert_eq!(room, Room::Made);
        quiet.gives_way().await;
        assert_eq!(places.taken(), 3);
        drop(quiet);
        assert_eq!(places.taken(), 3, "its place was another's already");
        let calls = [called.calls().token(), next.calls().token()];
        assert_eq!(places.take(address("10.0.0.5")).unwrap_err(), Full::Port);
        drop((call, calls, busy));
        assert_eq!(places.take(address("10.0.0.5")).unwrap().1, Room::Free);
    }

    #[tokio::test]
    async fn one_address_has_half_of_the_places_and_a_site_counts_as_one() {
        let places = Places::new(4, None);
        let take = |text| places.take(address(text)).unwrap();
        let held: Vec<_> = ["2001:db8::1", "2001:db8::2"].map(take).into();
        let calls: Vec<_> = held.iter().map(|(place, _)| place.calls().token()).collect();
        assert_eq!(places.take(address("2001:db8::3")).unwrap_err(), Full::Source);
        let other = take("2001:db8:1::1");
        assert_eq!(other.1, Room::Free);
        drop(calls);
        assert_eq!(take("2001:db8::3").1, Room::Made, "silence holds no place");
        drop(held);
        assert_eq!(places.taken(), 1, "the last one left by being dropped, too");
    }

    #[tokio::test]
    async fn who_comes_through_a_proxy_counts_as_who_it_is() {
        let places = Places::new(4, Some(1));
        let through = |text: &str| {
            let (place, _) = places.take(None).unwrap();
            place.comes_from(text.parse().unwrap()).map(|room| (place, room))
        };
        let first = through("203.0.113.1").unwrap().0;
        let call = first.calls().token();
        let second = through("203.0.113.2").unwrap();
        assert_eq!(second.1, Room::Free);
        assert_eq!(through("203.0.113.1").unwrap_err(), Full::Source);
        assert_eq!(places.take(address("203.0.113.1")).unwrap_err(), Full::Source);
        drop(call);
        assert_eq!(through("203.0.113.1").unwrap().1, Room::Made, "silence holds no place");
        drop((first, second));
        assert_eq!(places.taken(), 0);
    }
}
