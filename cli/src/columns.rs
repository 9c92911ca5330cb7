//! Tables for a terminal.

/// Rows under a heading: the columns named in `left` flush left, the others flush right.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>], left: &[&str]) -> String {
    let width_of = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([heading[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width_of).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.into_iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if left.contains(&heading[column]) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let line = padded.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    };
    let mut text = line(heading.to_vec());
    for row in rows {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_flush_left_and_figures_right() {
        let rows = vec![vec!["zh".to_owned(), "3.1".to_owned()], vec!["english".to_owned(), "12.25".to_owned()]];
        assert_eq!(table(&["name", "bits"], &rows, &["name"]), "name      bits\nzh         3.1\nenglish  12.25\n");
    }
}
