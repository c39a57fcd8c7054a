//! The end of a history, after everything was drained without faults: what was promised and never came.

use broker_model::{Model, StartFrom};

use super::{Checker, Place};

impl Checker {
    /// Whether anything is owed.
    ///
    /// # Errors
    /// The first thing that is.
    pub fn verdict(&mut self) -> Result<(), String> {
        self.check_presumed()?;
        self.check_copies()?;
        let groups: Vec<_> = self.groups.values().cloned().collect();
        for group in groups {
            let name = group.settings.name.to_string();
            let is_broadcasting = group.settings.model == Model::Broadcasting;
            for topic in &group.topics {
                if is_broadcasting {
                    for client in &group.clients {
                        self.check_owed(&name, client, topic)?;
                    }
                } else {
                    self.check_owed(&name, "", topic)?;
                }
            }
            self.check_dead_letters(&name)?;
        }
        Ok(())
    }

    /// Every copy that was stored or committed was seen, by somebody.
    fn check_copies(&self) -> Result<(), String> {
        for (id, copies) in &self.copies {
            let message = self.message(*id)?;
            let is_gone = |t: &&super::Named| t.name == message.topic && t.may_be_gone;
            if self.topics.values().any(|topic| is_gone(&topic))
                || self.unsure_names.contains(&message.topic)
                || !self.has_reader(&message.topic, *id)
            {
                continue;
            }
            let (least, _) = self.copies_visible(*id);
            let unread = self.unread_of(&message.topic) as u64 + self.taken_unseen(&message.topic);
            let seen = copies.places.len() as u64 + unread;
            if seen < least {
                return Err(format!(
                    "message {id} of {} was stored {least} times and seen {seen} times",
                    message.topic
                ));
            }
        }
        Ok(())
    }

    /// Places of a topic that were handed out, and whose bytes nobody could ever read.
    fn unread_of(&self, topic: &str) -> usize {
        let is_its = |place: &&Place| self.topic_of_number(place.0) == topic;
        self.unread.keys().filter(|place| !self.places.contains_key(place)).filter(is_its).count()
    }

    /// Whether a steady group reads everything of this topic from the beginning.
    fn has_reader(&self, topic: &str, id: u64) -> bool {
        self.groups.iter().any(|(name, group)| {
            let is_early = group.settings.model == Model::Clustering
                && group.settings.start_from(&crate::plan::topic_name(topic))
                    == StartFrom::Earliest;
            let reads = group.topics.iter().any(|own| own == topic);
            // With receives that nobody saw the end of, it may have died unseen.
            let lost = self.lost_receives_of(name, topic);
            let is_seen = lost < u64::from(self.attempts_least(name));
            reads
                && is_early
                && is_seen
                && self.is_wanted(name, id)
                && !self.disturbed_groups.contains(name)
        })
    }

    fn check_owed(&mut self, group: &str, client: &str, topic: &str) -> Result<(), String> {
        let is_theirs = |n: &super::Named| n.name == group && n.client == client;
        let readers = self.readers.iter().filter(|(_, named)| is_theirs(named));
        let newest = readers.map(|(number, named)| (*number, named.may_be_gone)).max();
        let was_reset = newest.is_none() && self.disturbed_groups.contains(group);
        if was_reset || newest.is_some_and(|(_, may_be_gone)| may_be_gone) {
            return Ok(());
        }
        // A group that never got anything has no number; it is owed all the same.
        let reader = newest.map_or(0, |(number, _)| number);
        let key = (group.to_owned(), client.to_owned(), topic.to_owned());
        let begun = self.begun.get(&key).copied();
        let planned = self.group(group);
        let is_late = planned.is_none_or(|g| {
            g.settings.model == Model::Broadcasting
                || g.settings.start_from(&crate::plan::topic_name(topic)) == StartFrom::Latest
        });
        if begun.is_none() {
            return Ok(());
        }
        let is_alive = |named: &super::Named| named.name == topic && !named.may_be_gone;
        let places: Vec<(Place, u64, Option<u64>)> = self
            .places
            .iter()
            .filter(|(place, _)| self.topics.get(&place.0).is_some_and(is_alive))
            .map(|(place, stored)| (*place, stored.id, stored.sent.map(|(asked, _)| asked)))
            .collect();
        let attempts_max = self.attempts_least(group);
        for (place, id, asked) in places {
            if !self.is_wanted(group, id) || topic.starts_with("%DLQ%") || self.is_taken(place) {
                continue;
            }
            // What nobody saw the end of counts for a group without a number too.
            let extra = match newest {
                Some(_) => self.extra_attempts(reader, place),
                None => self.lost_receives_of(group, topic),
            };
            let progress = self.progress_mut(reader, place);
            let is_after = asked.is_some_and(|asked| begun.is_some_and(|begun| asked > begun));
            let is_owed = !is_late || is_after || progress.is_owed;
            let is_lost = progress.is_open() && !progress.may_be_exhausted(extra, attempts_max);
            if is_owed && is_lost {
                return Err(format!(
                    "message {id} of {topic} at {place:?} is lost for {group} {client}, after {} deliveries",
                    progress.attempt
                ));
            }
        }
        Ok(())
    }

    /// Every certain dead letter stands in the dead-letter topic, and nothing else does.
    fn check_dead_letters(&mut self, group: &str) -> Result<(), String> {
        let attempts_max = self.attempts_most(group);
        let (mut revivals, mut has_gone) = (0, false);
        // Dead letters of what was handed out, and nobody ever knew which messages it was.
        let mut unknown_deaths = 0;
        let (keeps, discards) = (self.keeps_dead_letters(group), self.discards_dead_letters(group));
        let mut counts = std::collections::BTreeMap::<u64, (u64, u64)>::new();
        let keys: Vec<_> = self.progress.keys().copied().collect();
        for (reader, place) in keys {
            if self.group_of_reader(reader) != group {
                continue;
            }
            let extra = self.extra_attempts(reader, place);
            let Some(id) = self.places.get(&place).map(|stored| stored.id) else {
                let progress = self.progress_mut(reader, place);
                revivals += progress.revivals;
                unknown_deaths += progress.deaths_max + extra;
                continue;
            };
            let is_gone = self.topics.get(&place.0).is_none_or(|topic| topic.may_be_gone);
            has_gone |= is_gone;
            let is_taken = self.is_taken(place);
            let progress = self.progress_mut(reader, place);
            // Put back, and then gone.
            revivals += progress.revivals + u64::from(is_taken && progress.may_revive);
            let is_over = progress.is_done || progress.ghosts + progress.unknown > 0;
            let is_exhausted = progress.attempt >= attempts_max && !is_over;
            let is_certain =
                (progress.is_dead || is_exhausted) && !progress.may_revive && !progress.is_unsure;
            // What went before it died can be no dead letter.
            let is_certain = is_certain && !is_taken;
            let count = counts.entry(id).or_default();
            count.0 += u64::from(is_certain && keeps);
            count.1 += if discards { 0 } else { progress.deaths_max + extra };
        }
        // Nobody reads the dead letters of who reads dead letters.
        let comes_and_goes = self.group(group).is_some_and(|group| group.is_volatile);
        if self.disturbed_groups.contains(group) || group == "undertaker" || comes_and_goes {
            return Ok(());
        }
        let seen_of =
            |id: u64| self.dead_places.get(&(group.to_owned(), id)).map_or(0, |p| p.len() as u64);
        for (id, (least, most)) in counts {
            let seen = seen_of(id);
            let dead_letters = format!("%DLQ%{group}");
            let are_read = !self.disturbed_groups.contains("undertaker")
                && self.taken_unseen(&dead_letters) == 0;
            let unexplained = seen.saturating_sub(most);
            if (are_read && seen < least) || unexplained > unknown_deaths {
                return Err(format!(
                    "message {id} is {seen} times among the dead letters of {group}, expected {least} to {most}"
                ));
            }
            unknown_deaths -= unexplained;
        }
        let lost: u64 =
            self.lost_receives.iter().filter(|((name, _), _)| name == group).map(|(_, n)| n).sum();
        let redriven = self.redriven.get(group).copied().unwrap_or(0);
        if lost == 0 && !has_gone && revivals < redriven {
            return Err(format!(
                "{redriven} dead letters of {group} were put back and {revivals} came"
            ));
        }
        Ok(())
    }
}
