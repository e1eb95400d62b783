//! Reading a topic without a group.

use std::collections::BTreeMap;

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{BusError, CALL, Position, Received, failed, partitions_of, received};

/// How many lost connections one reading bears.
const LOST_MAX: u32 = 20;

fn is_connection(e: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        e.rdkafka_error_code(),
        Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve)
    )
}

pub(super) fn at_time(
    reader: &BaseConsumer,
    topic: &str,
    partition: i32,
    ms: i64,
) -> Result<Option<i64>, BusError> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(ms)).map_err(|e| failed(&e))?;
    let found = reader.offsets_for_times(list, CALL).map_err(|e| failed(&e))?;
    Ok(found.elements().first().and_then(|e| e.offset().to_raw()).filter(|o| *o >= 0))
}

pub(super) fn read_all(
    reader: &BaseConsumer,
    topic: &str,
    from: Position,
) -> Result<Vec<Received>, BusError> {
    let mut list = TopicPartitionList::new();
    let mut ends = BTreeMap::new();
    for p in partitions_of(reader, topic)? {
        let (low, high) = reader.fetch_watermarks(topic, p, CALL).map_err(|e| failed(&e))?;
        let begin = match from {
            Position::Beginning => low,
            Position::End => high,
            Position::Offset(offset) => offset.clamp(low, high),
            Position::Time(ms) => at_time(reader, topic, p, ms)?.unwrap_or(high),
        };
        if begin < high {
            ends.insert(p, high);
            list.add_partition_offset(topic, p, Offset::Offset(begin)).map_err(|e| failed(&e))?;
        }
    }
    if ends.is_empty() {
        return Ok(Vec::new());
    }
    reader.assign(&list).map_err(|e| failed(&e))?;
    let mut all = Vec::new();
    let mut lost = 0;
    while !ends.is_empty() {
        let Some(message) = reader.poll(CALL) else {
            return Err(BusError::Unavailable(format!(
                "topic {topic} was not read to its end in time"
            )));
        };
        let record = match message {
            Ok(message) => received(&message),
            // A connection was lost; the client makes another, to the next leader if need be, and goes on where it was.
            Err(e) if is_connection(&e) && lost < LOST_MAX => {
                lost += 1;
                continue;
            }
            Err(e) => return Err(failed(&e)),
        };
        let Some(end) = ends.get(&record.partition).copied() else { continue };
        if record.offset + 1 >= end {
            ends.remove(&record.partition);
        }
        if record.offset < end {
            all.push(record);
        }
    }
    all.sort_by_key(|r| (r.partition, r.offset));
    Ok(all)
}
