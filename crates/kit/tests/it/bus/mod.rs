//! What a bus promises, proved on each implementation: PostgreSQL, librdkafka's mock cluster, and a real Kafka where
//! `HOSPITAL_TEST_KAFKA` says where one is.

mod consumers;
mod dead_letters;
mod fixtures;
mod records;
mod writers;

/// A test of each fact for each implementation.
macro_rules! facts {
    ($($module:ident::$fact:ident,)*) => {
        mod postgres {
            #[tokio::test(flavor = "multi_thread")]
            async fn what_is_past_its_retention_goes() {
                super::records::what_is_past_its_retention_goes(super::fixtures::Place::postgres().await).await;
            }
            #[tokio::test(flavor = "multi_thread")]
            async fn a_bus_that_was_lost_is_read_from_its_beginning() {
                super::consumers::a_bus_that_was_lost_is_read_from_its_beginning(super::fixtures::Place::postgres().await).await;
            }
            #[tokio::test(flavor = "multi_thread")]
            async fn a_member_that_was_killed_is_replaced_at_once() {
                super::consumers::a_member_that_was_killed_is_replaced_at_once(super::fixtures::Place::postgres().await).await;
            }
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $fact() {
                    super::$module::$fact(super::fixtures::Place::postgres().await).await;
                }
            )*
        }
        mod kafka {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $fact() {
                    super::$module::$fact(super::fixtures::Place::kafka()).await;
                }
            )*
        }
    };
}

facts! {
    records::a_key_keeps_its_order_and_its_partition,
    records::a_record_comes_through_to_the_byte,
    records::a_large_record_passes_and_one_too_large_is_refused,
    records::reading_begins_where_it_is_told_to,
    records::an_unknown_topic_reads_as_empty,
    records::topics_are_made_once_and_checked,
    records::a_bus_that_is_away_says_so_and_does_not_hang,
    consumers::each_group_sees_everything,
    consumers::members_share_and_take_over,
    consumers::committed_offsets_survive_and_the_rest_comes_again,
    consumers::rewinding_brings_back_what_was_not_committed,
    consumers::a_group_is_replayed_from_an_offset_and_from_a_time,
    consumers::lag_is_what_is_still_to_commit,
    consumers::poison_is_put_aside_and_the_rest_goes_on,
    consumers::a_crash_between_effect_and_commit_has_one_effect,
    dead_letters::what_follows_a_dead_letter_of_its_aggregate_waits_and_comes_in_order,
    dead_letters::a_letter_that_is_dropped_lets_those_behind_it_go,
    dead_letters::an_event_older_than_what_is_remembered_is_put_aside_unless_it_is_known,
    dead_letters::an_earlier_step_from_another_topic_passes_a_dead_letter,
    dead_letters::a_letter_that_comes_again_by_the_topic_is_applied_and_closed,
    dead_letters::a_record_for_another_group_is_passed_by,
    dead_letters::what_a_source_may_not_publish_is_put_aside_and_is_in_nobody_s_way,
}
