//! How names are compared: one folding for what is stored and what is asked.
//!
//! Case, accents and marks go, and the letters that are not an accented other letter become what
//! people type for them. Writing other than Latin stays what it is.

use std::collections::BTreeSet;

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// Which folding the entries of a patient were made by. Whoever changes what [`entries`] or
/// [`fold`] give raises it, with a migration that makes the index `patient_to_enter` anew: then
/// everybody is folded again in the background.
macro_rules! fold_version {
    () => {
        "2/"
    };
}
pub(crate) use fold_version;

/// What is longer is cut: an entry has to fit into an index.
const WORD_MAX: usize = 60;
const WHOLE_MAX: usize = 200;

/// Of so many words of a name every two are an entry, and of so many every few that follow one
/// another. Names have fewer.
const PAIRED_MAX: usize = 12;
const JOINED_MAX: usize = 6;

/// Signs inside a word that people leave out.
const fn is_apostrophe(c: char) -> bool {
    matches!(
        c,
        '\'' | '`' | '´' | '·' | '\u{2b9}'..='\u{2bf}' | '\u{2c8}' | '\u{2ca}' | '\u{2cb}' | '\u{2018}'..='\u{201b}' | '\u{2032}'
            | '\u{2035}' | '\u{a78c}' | '\u{55a}' | '\u{5f3}' | '\u{ff07}'
    )
}

/// A text without case, accents and marks.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    // Some of the signs that are apostrophes here decompose into a space and a mark.
    let text: String = text.chars().map(|c| if is_apostrophe(c) { '\'' } else { c }).collect();
    for c in text.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase) {
        match letters_of(c) {
            Some(letters) => plain.push_str(letters),
            // Lower-casing one letter may give a mark, as of İ.
            None if is_combining_mark(c) => {}
            None if is_apostrophe(c) => plain.push('\''),
            None => plain.push(c),
        }
    }
    plain
}

/// What people type for a letter that Unicode does not take apart: as passports have it (ICAO
/// 9303), or the letter that it looks like.
const fn letters_of(c: char) -> Option<&'static str> {
    Some(match c {
        'ł' | 'ƚ' | 'ɫ' | 'ⱡ' => "l",
        'ø' | 'ɔ' | 'ɵ' => "o",
        'đ' | 'ð' | 'ɖ' | 'ɗ' => "d",
        'ħ' | 'ⱨ' => "h",
        'ı' | 'ɨ' => "i",
        'ȷ' | 'ɉ' => "j",
        'ŧ' | 'ƭ' => "t",
        'ŋ' | 'ɲ' => "n",
        'ĸ' => "q",
        'ƙ' => "k",
        'ƀ' | 'ɓ' => "b",
        'ƈ' => "c",
        'ǥ' | 'ɠ' | 'ɣ' => "g",
        'ƒ' => "f",
        'ƥ' => "p",
        'ɍ' => "r",
        'ʉ' => "u",
        'ʋ' => "v",
        'ƴ' | 'ɏ' => "y",
        'ƶ' => "z",
        'ə' | 'ɛ' | 'ǝ' => "e",
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        'þ' => "th",
        'ς' => "σ",
        _ => return None,
    })
}

fn cut(word: &str, max: usize) -> String {
    word.chars().take(max).collect()
}

/// A name's words in order. Apostrophes are left out; everything else that is no letter or digit is
/// between words.
fn segments(name: &str) -> Vec<String> {
    let plain = plain(name);
    let mut segments: Vec<String> = plain
        .split(|c: char| !c.is_alphanumeric() && c != '\'')
        .map(|w| cut(&w.replace('\'', ""), WORD_MAX))
        .filter(|w| !w.is_empty())
        .collect();
    if segments.is_empty() {
        // A name without a letter, such as an emoji, is still searched by itself.
        segments.extend(plain.split_whitespace().map(|w| cut(w, WORD_MAX)));
    }
    segments
}

/// A name as it is compared with another: its words with a space between them.
pub(crate) fn fold(name: &str) -> String {
    segments(name).join(" ")
}

/// The words that a search asks for, none of which another begins with: they are asked for with it.
pub(crate) fn asked(name: &str) -> Vec<String> {
    let words = segments(name);
    let implied = |i: usize, word: &str| {
        words.iter().enumerate().any(|(j, other)| {
            i != j && other.starts_with(word) && (other.len() > word.len() || j < i)
        })
    };
    words.iter().enumerate().filter(|(i, w)| !implied(*i, w)).map(|(_, w)| w.clone()).collect()
}

/// An entry of the index of names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) word: String,
    /// All words of the patient, each after a space, where the entry is of several.
    pub(crate) words: Option<String>,
}

impl Entry {
    /// Whether a search may come by it: not by the whole, which is for duplicates.
    pub(crate) fn is_searched(&self) -> bool {
        !self.word.starts_with("  ")
    }
}

/// What a patient is found by: every word; words that follow one another, written together; the
/// whole name, either way round; every word behind the first letter of every other one, so that a
/// search for two words begins at few; the whole of it, as duplicates ask for it. A temporary name
/// is found by its words, beside the others.
pub(crate) fn entries(names: &[&str], temporary: Option<&str>) -> Vec<Entry> {
    let (mut words, mut joined) = (BTreeSet::new(), BTreeSet::new());
    for name in names.iter().copied().chain(temporary) {
        let segments = segments(name);
        for (i, word) in segments.iter().enumerate().take(JOINED_MAX) {
            let mut all = word.clone();
            for next in segments.iter().take(JOINED_MAX).skip(i + 1) {
                all.push_str(next);
                joined.insert(cut(&all, WHOLE_MAX));
            }
        }
        words.extend(segments);
        // The parts between apostrophes are words for those who put a space there.
        let parts = plain(name);
        words.extend(
            parts
                .split(|c: char| !c.is_alphanumeric())
                .filter(|w| !w.is_empty())
                .map(|w| cut(w, WORD_MAX)),
        );
    }
    let wholes: Vec<String> = names.iter().map(|name| segments(name).concat()).collect();
    joined.insert(cut(&wholes.concat(), WHOLE_MAX));
    joined.insert(cut(&wholes.iter().rev().map(String::as_str).collect::<String>(), WHOLE_MAX));
    joined.remove("");

    let paired: Vec<&String> = words.iter().take(PAIRED_MAX).collect();
    let all: String = paired.iter().flat_map(|word| [" ", word.as_str()]).collect();
    let mut entries = BTreeSet::new();
    for first in &paired {
        for word in paired.iter().filter(|word| *word != first) {
            entries.extend(pair(first, word).map(|word| Entry { word, words: Some(all.clone()) }));
        }
    }
    let together = joined.iter().filter(|word| !words.contains(*word)).cloned();
    entries.extend(together.map(|word| Entry { word, words: Some(all.clone()) }));
    let alone = words.iter().cloned().chain([whole(names)]);
    entries.extend(alone.map(|word| Entry { word, words: None }));
    entries.into_iter().collect()
}

/// The entry of two words. It begins with a space, as no word does, so that no search for one word
/// comes by it.
pub(crate) fn pair(first: &str, word: &str) -> Option<String> {
    first.chars().next().map(|letter| format!(" {letter} {word}"))
}

/// The entry that all have who have the same names, whichever is the family's.
pub(crate) fn whole(names: &[&str]) -> String {
    let mut all: Vec<String> =
        names.iter().map(|name| segments(name).concat()).filter(|name| !name.is_empty()).collect();
    all.sort();
    cut(&format!("  {}", all.join(" ")), WHOLE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_what_is_stored() {
        for (name, typed) in [
            ("Łukasz", "lukasz"),
            ("Żółć", "ZOLC"),
            ("Søren", "soren"),
            ("Weiß", "weiss"),
            ("WEIẞ", "weiss"),
            ("Yıldız", "yildiz"),
            ("İpek", "ipek"),
            ("IŞIK", "ışık"),
            ("Đặng", "dang"),
            ("Ægir Þór Guðmundsson", "aegir thor gudmundsson"),
            ("Œuvrard", "oeuvrard"),
            ("Ħamrun", "hamrun"),
            ("O’Brien", "o'brien"),
            ("O`Brien", "obrien"),
            ("Gal·la", "galla"),
            ("Gaŀla", "galla"),
            ("Zoe\u{308}", "zoë"),
            ("Ｙａｍａｄａ", "yamada"),
            ("Παπαδόπουλος", "ΠΑΠΑΔΟΠΟΥΛΟΣ"),
            ("Артём", "артем"),
            ("José-María", "jose maria"),
        ] {
            assert_eq!(fold(name), fold(typed), "{name}");
        }
        assert_eq!(fold("王小明"), "王小明");
        assert_eq!(fold("👩"), "👩");
        for name in ["", " ", "\u{301}", "'", "-"] {
            assert!(entries(&[name], None).len() <= 2, "{name:?}");
        }
    }

    #[test]
    fn a_name_is_found_by_its_words_together_and_apart() {
        let has = |names: &[&str], word: &str| entries(names, None).iter().any(|e| e.word == word);
        for word in
            ["o", "brien", "obrien", "d", "arcy", "darcy", "obriendarcy", "sineadobriendarcy"]
        {
            assert!(has(&["Sinéad", "O'Brien-D’Arcy"], word), "{word}");
        }
        for word in ["王", "小明", "王小明", "小明王", " 王 小明", " 小 王"] {
            assert!(has(&["小明", "王"], word), "{word}");
        }
        let found = entries(&["Ann"], Some("Unknown Amber River 12"));
        assert!(
            [" a river", " r 12", " a amber"].iter().all(|w| found.iter().any(|e| e.word == *w))
        );
        assert!(found.iter().any(|e| e.word == whole(&["Ann"])), "{found:?}");
        assert!(has(&["Anna Maria", "Lee"], "annamaria"));
        assert!(has(&["Łukasz", "Żółć"], "lukaszzolc") && has(&["Łukasz", "Żółć"], "zolclukasz"));
        assert_eq!(whole(&["Łukasz", "Żółć"]), whole(&["zolc", "LUKASZ"]));
        assert_ne!(whole(&["Anna", "Maria"]), whole(&["Annamaria"]));
    }

    #[test]
    fn an_entry_of_several_words_tells_all_words_apart() {
        let found = entries(&["Anna Maria", "Rossi"], None);
        let words = |word: &str| found.iter().find(|e| e.word == word).unwrap().words.as_deref();
        for word in ["annamaria", "annamariarossi", " r anna"] {
            assert_eq!(words(word), Some(" anna maria rossi"), "{word}");
        }
        assert_eq!(words("rossi"), None);
    }

    #[test]
    fn entries_are_bounded() {
        let long = "ab ".repeat(100);
        let many: String = (0..60).map(|i| format!("n{i} ")).collect();
        for name in [&long, &many] {
            let entries = entries(&[name, name], Some(name));
            assert!(entries.len() < 250, "{}", entries.len());
            assert!(entries.iter().all(|e| e.word.chars().count() <= WHOLE_MAX));
        }
    }

    #[test]
    fn a_word_that_another_begins_with_is_not_asked_for_twice() {
        assert_eq!(asked("jo John"), ["john"]);
        assert_eq!(asked("anna Anna maria"), ["anna", "maria"]);
        assert_eq!(asked("Zoë Mül"), ["zoe", "mul"]);
    }
}
