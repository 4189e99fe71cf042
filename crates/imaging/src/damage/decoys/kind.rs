//! The kinds of decoys, and their names.

use std::fmt;

/// Something that belongs to the picture and looks like damage at first sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecoyKind {
    /// Single hairs, tufts of hair, whiskers.
    Hair,
    /// Blades of grass and reeds.
    Grass,
    /// Branches and twigs, from thick to thin.
    Branches,
    /// Wires, ropes and masts, often several side by side.
    Wires,
    /// Letters and numbers, printed or in lines of text.
    Text,
    /// Bundles of parallel soft strokes of a brush.
    Brush,
    /// Window frames, grids, fences and tiles.
    Lattice,
    /// Bright windows, white rectangles, signs.
    Panels,
    /// The thin dark contour of a shape.
    Outlines,
    /// Cloth and hatching.
    Fabric,
    /// Highlights: points of light, glints on water, reflections.
    Sparkles,
    /// Things that people make: plates, balls, cups, boxes, stripes.
    Objects,
}

impl DecoyKind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Hair,
        Self::Grass,
        Self::Branches,
        Self::Wires,
        Self::Text,
        Self::Brush,
        Self::Lattice,
        Self::Panels,
        Self::Outlines,
        Self::Fabric,
        Self::Sparkles,
        Self::Objects,
    ];

    /// The name, as [`Display`](fmt::Display) writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hair => "hair",
            Self::Grass => "grass",
            Self::Branches => "branches",
            Self::Wires => "wires",
            Self::Text => "text",
            Self::Brush => "brush",
            Self::Lattice => "lattice",
            Self::Panels => "panels",
            Self::Outlines => "outlines",
            Self::Fabric => "fabric",
            Self::Sparkles => "sparkles",
            Self::Objects => "objects",
        }
    }
}

impl fmt::Display for DecoyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
