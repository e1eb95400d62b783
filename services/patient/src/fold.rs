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

/// Of so many words of a name every two and every three are an entry, and so many that follow one
/// another are written together. Names have fewer.
const PAIRED_MAX: usize = 12;
const JOINED_MAX: usize = 6;

/// Words that take more bytes are not in an entry, which has to fit into an index: then a search
/// looks at the patient's other entries.
const ALL_MAX: usize = 1000;

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
    /// All words of the patient, each after a space, where the entry is of several, and they fit.
    pub(crate) words: Option<String>,
}

impl Entry {
    /// Whether a search may come by it: not by the whole, which is for duplicates.
    pub(crate) fn is_searched(&self) -> bool {
        !self.word.starts_with("  ")
    }
}

/// What a patient is found by: every word; words that follow one another, written together; the
/// whole name, either way round; every word behind the first letters of every one and every two of
/// the others, so that a search for several words begins at few; the whole of it, as duplicates ask
/// for it. A temporary name is found by its words, beside the others.
pub(crate) fn entries(names: &[&str], temporary: Option<&str>) -> Vec<Entry> {
    let mut words = BTreeSet::new();
    let segmented: Vec<Vec<String>> = names.iter().map(|name| segments(name)).collect();
    let mut follow_one_another = vec![segmented.concat()];
    follow_one_another.push(segmented.iter().rev().flatten().cloned().collect());
    for name in names.iter().copied().chain(temporary) {
        let segments = segments(name);
        let first = &segments[..segments.len().min(JOINED_MAX)];
        follow_one_another.extend((0..first.len()).map(|i| first[i..].to_vec()));
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

    let paired: Vec<&String> = words.iter().take(PAIRED_MAX).collect();
    let all: String = paired.iter().flat_map(|word| [" ", word.as_str()]).collect();
    let all = Some(all).filter(|all| all.len() <= ALL_MAX);
    let mut several = BTreeSet::new();
    for word in &paired {
        let others: Vec<&str> =
            paired.iter().filter(|other| *other != word).map(|other| other.as_str()).collect();
        for (i, other) in others.iter().enumerate() {
            several.insert(among(&[other], word));
            several.extend(others[..i].iter().map(|third| among(&[other, third], word)));
        }
    }
    for segments in follow_one_another {
        let [first, rest @ ..] = &*segments else { continue };
        let rest = rest.concat();
        // Who has it as a word is found by that.
        if !rest.is_empty() && !words.contains(&format!("{first}{rest}")) {
            several.insert(cut(&joined(first, &rest), WHOLE_MAX));
        }
    }
    let alone = words.into_iter().chain([whole(names)]);
    let mut entries: Vec<Entry> = alone.map(|word| Entry { word, words: None }).collect();
    entries.extend(several.into_iter().map(|word| Entry { word, words: all.clone() }));
    entries
}

/// The entry of a word of somebody who has others, too. It begins with a space, as no word does, so
/// that no search for one word comes by it; letters of two others are not of one word, for they
/// stand together.
pub(crate) fn among(others: &[&str], word: &str) -> String {
    let mut letters: Vec<char> = others.iter().filter_map(|other| other.chars().next()).collect();
    letters.sort_unstable();
    format!(" {} {word}", letters.into_iter().collect::<String>())
}

/// The entry of words written together, which tells where the first ends: a search comes only by
/// those whose first word is shorter than what it asks for. The others are of people who have a
/// word that begins so, and who may be very many.
fn joined(first: &str, rest: &str) -> String {
    format!("\t{first} {rest}")
}

/// What is found of a patient, as one text: the words, each after a space, and what is written
/// together, each after a tab; nothing if that does not fit into an index.
pub(crate) fn searched(names: &[&str], temporary: Option<&str>) -> Option<String> {
    let mut searched = String::new();
    for Entry { word, .. } in entries(names, temporary) {
        if word.starts_with('\t') {
            searched.push('\t');
            searched.extend(word.split_whitespace());
        } else if !word.starts_with(' ') {
            searched.push(' ');
            searched.push_str(&word);
        }
    }
    Some(searched).filter(|searched| searched.len() <= ALL_MAX)
}

/// How the entries begin of words that, written together, begin with `asked`: for each place where
/// the first of them may end.
pub(crate) fn together(asked: &str) -> Vec<String> {
    let ends = asked.char_indices().map(|(at, _)| at).skip(1).take(WORD_MAX);
    ends.map(|at| asked.split_at(at)).map(|(first, rest)| joined(first, rest)).collect()
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
            ["o", "brien", "obrien", "d", "arcy", "darcy", "\tobrien darcy", "\tsinead obriendarcy"]
        {
            assert!(has(&["Sinéad", "O'Brien-D’Arcy"], word), "{word}");
        }
        for word in ["王", "小明", "\t王 小明", "\t小明 王", " 王 小明", " 小 王"] {
            assert!(has(&["小明", "王"], word), "{word}");
        }
        let found = entries(&["Ann"], Some("Unknown Amber River 12"));
        assert!(
            [" a river", " r 12", " a amber"].iter().all(|w| found.iter().any(|e| e.word == *w))
        );
        assert!(found.iter().any(|e| e.word == whole(&["Ann"])), "{found:?}");
        assert!(has(&["Anna Maria", "Lee"], "\tanna maria"));
        assert!(
            has(&["Łukasz", "Żółć"], "\tlukasz zolc") && has(&["Łukasz", "Żółć"], "\tzolc lukasz")
        );
        assert_eq!(whole(&["Łukasz", "Żółć"]), whole(&["zolc", "LUKASZ"]));
        assert_ne!(whole(&["Anna", "Maria"]), whole(&["Annamaria"]));
    }

    #[test]
    fn an_entry_of_several_words_tells_all_words_apart() {
        let found = entries(&["Anna Maria", "Rossi"], None);
        let words = |word: &str| found.iter().find(|e| e.word == word).unwrap().words.as_deref();
        for word in ["\tanna maria", "\tanna mariarossi", " r anna", " mr anna", " ar maria"] {
            assert_eq!(words(word), Some(" anna maria rossi"), "{word}");
        }
        assert_eq!(words("rossi"), None);
    }

    #[test]
    fn what_is_written_together_is_asked_for_by_where_its_first_word_ends() {
        assert_eq!(together("zoë"), ["\tz oë", "\tzo ë"]);
        assert!(together("z").is_empty() && together("").is_empty());
        assert_eq!(together(&"z".repeat(200)).len(), WORD_MAX);
        let found = entries(&["Marie Anne", "Dupont"], None);
        for asked in ["mariean", "marieannedup", "dupontmarie"] {
            let begins = together(asked);
            let finds = |e: &Entry| begins.iter().any(|begin| e.word.starts_with(begin));
            assert!(found.iter().any(finds), "{asked}");
        }
        let garcia = entries(&["Anna", "Garcia"], None);
        let begins = together("garcia");
        assert!(!garcia.iter().any(|e| begins.iter().any(|begin| e.word.starts_with(begin))));
    }

    #[test]
    fn what_is_found_is_one_text() {
        let found = searched(&["Anna", "O'Brien"], Some("Unknown Amber"));
        let text = " amber anna brien o obrien unknown\tannaobrien\tobrienanna\tunknownamber";
        assert_eq!(found.as_deref(), Some(text));
        let long: String = ('a'..='z').map(|c| c.to_string().repeat(60) + " ").collect();
        assert_eq!(searched(&[&long], None), None);
    }

    #[test]
    fn entries_fit_into_an_index() {
        let longest = |c: char| c.to_string().repeat(60) + " ";
        let many: String = ('𐐨'..='𐐳').map(longest).collect();
        for entry in entries(&[&many, &many], Some(&many)) {
            let bytes = entry.word.len() + entry.words.map_or(0, |words| words.len());
            // A third of a page, less the other columns.
            assert!(bytes < 2600, "{bytes}");
        }
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
