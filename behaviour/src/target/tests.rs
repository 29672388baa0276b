use super::*;

fn element(tag: &str) -> Element {
    Element { tag: tag.to_owned(), ..Element::default() }
}

fn target(path: &[Element]) -> Target {
    Target::of(path, &StepWords::default())
}

fn named(path: &[Element]) -> String {
    target(path).name
}

#[test]
fn a_name_is_the_first_that_exists() {
    let whole = Element {
        data_testid: "pay".to_owned(),
        id: "pay-now".to_owned(),
        text: "Pay".to_owned(),
        classes: vec!["button".to_owned()],
        ..element("button")
    };
    assert_eq!(named(std::slice::from_ref(&whole)), "[data-testid=pay]");
    let whole = Element { data_testid: String::new(), ..whole };
    assert_eq!(named(std::slice::from_ref(&whole)), "#pay-now");
    let whole = Element { id: "btn-1234".to_owned(), ..whole };
    assert_eq!(named(std::slice::from_ref(&whole)), "button[Pay]");
    let whole = Element { text: String::new(), ..whole };
    assert_eq!(named(&[whole]), "button.button");
    assert_eq!(named(&[]), "");
}

#[test]
fn a_generated_id_is_no_name() {
    for (id, generated) in
        [("pay", false), ("step-12", false), ("step-123", true), ("x-a1b2c3", true), ("r:1f:", false), ("facade", true)]
    {
        assert_eq!(looks_generated(id), generated, "{id}");
    }
}

#[test]
fn a_generated_class_is_no_part_of_a_name() {
    let classes = ["card", "css-1x2y3z4k", "wide", "sc-bdfrtg", "title", "last"].map(str::to_owned).to_vec();
    assert_eq!(named(&[Element { classes, ..element("div") }]), "div.card.wide.title");
}

#[test]
fn a_name_made_of_tags_has_few_ancestors() {
    let path: Vec<Element> = ["i", "span", "li", "ul", "nav", "main", "body"].map(element).to_vec();
    assert_eq!(named(&path), "nav > ul > li > span > i");
}

#[test]
fn a_masked_text_is_no_name() {
    let button = Element { text: "Mrs Smith".to_owned(), is_masked: true, ..element("button") };
    assert_eq!(named(&[button]), "button");
}

#[test]
fn the_target_is_the_closest_button_or_link() {
    let button = Element { id: "buy".to_owned(), ..element("button") };
    assert_eq!(named(&[element("i"), element("span"), button.clone()]), "#buy");
    assert!(target(&[element("i"), button]).traits.any(Traits::INTERACTIVE));
    let role = Element { role: "button".to_owned(), id: "go".to_owned(), ..element("div") };
    assert_eq!(named(&[element("i"), role]), "#go");
    assert_eq!(named(&[Element { id: "card".to_owned(), ..element("div") }]), "#card");
}

#[test]
fn a_labels_target_is_its_control() {
    let input = Element { input_type: "email".to_owned(), id: "mail".to_owned(), ..element("input") };
    let label = Element { is_label_for: true, control: Some(Box::new(input)), ..element("label") };
    let of_text = target(&[element("span"), label]);
    assert_eq!(of_text.name, "#mail");
    assert!(of_text.traits.any(Traits::LABEL) && of_text.traits.any(Traits::TEXT_FIELD));
    let to_nothing = target(&[Element { is_label_for: true, ..element("label") }]);
    assert!(to_nothing.traits.any(Traits::INTERACTIVE) && !to_nothing.traits.any(Traits::TEXT_FIELD));
}

#[test]
fn words_of_steps_are_contained_and_symbols_are_whole() {
    let says = |text: &str| target(&[Element { text: text.to_owned(), ..element("button") }]).traits.any(Traits::STEPS);
    for text in ["Next", "PREVIOUS page", "prev", "+", " - ", "\u{2212}", "\u{2013}", ">", "<"] {
        assert!(says(text), "{text}");
    }
    for text in ["sign-up", "C++", "Buy", "", "a > b"] {
        assert!(!says(text), "{text}");
    }
    let carousel = Element { aria_label: "Next slide".to_owned(), ..element("button") };
    assert!(target(&[element("svg"), carousel]).traits.any(Traits::STEPS), "an ancestor's label counts");
}

#[test]
fn what_is_inside_a_link_or_an_editor_is_part_of_it() {
    let link = Element { has_href: true, ..element("a") };
    assert!(target(&[element("span"), link]).traits.any(Traits::LINK));
    assert!(!target(&[element("a")]).traits.any(Traits::LINK));
    assert!(target(&[element("a")]).traits.any(Traits::INTERACTIVE));
    let editor = Element { is_editable: true, ..element("div") };
    assert!(target(&[element("b"), editor]).traits.any(Traits::TEXT_FIELD));
    let download = Element { has_href: true, is_download: true, ..element("a") };
    assert!(target(&[download]).traits.any(Traits::AWAY));
    let elsewhere = |link_target: &str| {
        target(&[Element { link_target: link_target.to_owned(), ..element("a") }]).traits.any(Traits::AWAY)
    };
    assert!(elsewhere("_blank") && !elsewhere("_self") && !elsewhere(""));
}

#[test]
fn sliders_keypads_and_surfaces_are_known() {
    let input = |input_type: &str| Element { input_type: input_type.to_owned(), ..element("input") };
    assert!(target(&[input("range")]).traits.any(Traits::SLIDER));
    assert!(!target(&[input("checkbox")]).traits.any(Traits::SLIDER.and(Traits::TEXT_FIELD)));
    assert!(target(&[Element { role: "spinbutton".to_owned(), ..element("div") }]).traits.any(Traits::SLIDER));
    let key = |digit_buttons| target(&[Element { digit_buttons, ..element("button") }]).traits.any(Traits::KEYPAD);
    assert!(key(6) && !key(5));
    assert!(target(&[Element { is_map: true, ..element("div") }]).traits.any(Traits::SURFACE));
    assert!(target(&[element("canvas")]).traits.any(Traits::SURFACE));
}

#[test]
fn what_a_site_ignores_goes_for_all_inside() {
    let ignore = |value: &str| Ignore::parse(value);
    assert_eq!(ignore(" "), Ignore::ALL);
    assert!(ignore("rage dead").has(SignalKind::RageClick) && ignore("rage dead").has(SignalKind::DeadClick));
    assert!(!ignore("rage dead").has(SignalKind::SlowClick) && !ignore("dead").has(SignalKind::DeadSwipe));
    assert!(ignore("swipe").has(SignalKind::DeadSwipe) && ignore("rage-click").has(SignalKind::RageClick));
    assert_eq!(ignore("nonsense"), Ignore::default());
    let outer = Element { ignore: Some("rage".to_owned()), ..element("div") };
    let inner = Element { ignore: Some("error".to_owned()), ..element("button") };
    let both = target(&[inner, outer]).ignore;
    assert!(both.has(SignalKind::RageClick) && both.has(SignalKind::ErrorClick) && !both.has(SignalKind::DeadClick));
}

#[test]
fn an_endless_path_is_cut() {
    let path: Vec<Element> = (0..10_000).map(|_| element("div")).collect();
    assert_eq!(named(&path), "div > div > div > div > div");
    let long = Element { id: "é".repeat(10_000), ..element("div") };
    assert_eq!(named(&[long]).chars().count(), NAME_CHARS_MAX);
}
