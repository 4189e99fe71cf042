//! The kinds of damage, and their names.

use std::fmt;
use std::str::FromStr;

use crate::error::ImagingError;

/// One kind of damage.
///
/// *Structural* kinds hide or alter some pixels, and the mask marks those. *Global* kinds
/// ([`is_global`](Self::is_global)) change the whole picture and leave no trace in the mask.
///
/// The order is the order in which kinds are applied to a picture: what happened in the camera comes first,
/// what lies loose on the print comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DamageKind {
    /// Motion blur: the camera or the sitter moved. Global.
    Blur,
    /// Film grain, coarser than the picture's own. Global.
    Grain,
    /// Fading: lost contrast, lifted blacks, a colour cast, uneven over the picture. Global.
    Fading,
    /// Water marks with a tide line, foxing, ink.
    Stains,
    /// The network of fine cracks in old paint or varnish.
    Craquelure,
    /// Branching cracks of the emulsion, showing paper (or, less often, dark).
    Cracks,
    /// Creases across the picture: broken emulsion along a line, light and shade beside it.
    Folds,
    /// Straight or slightly curved marks of something dragged over the surface.
    Scratches,
    /// Missing emulsion or paint, abraded patches, torn-off corners.
    Losses,
    /// Tears from the border inwards, with a fibrous white edge and a gap.
    Tears,
    /// Something large over the picture: a pasted label, tape, a scribble, a burn.
    Occlusion,
    /// Specks, hairs and fibres.
    Dust,
}

impl DamageKind {
    /// Every kind, in the order of application.
    pub const ALL: [Self; 12] = [
        Self::Blur,
        Self::Grain,
        Self::Fading,
        Self::Stains,
        Self::Craquelure,
        Self::Cracks,
        Self::Folds,
        Self::Scratches,
        Self::Losses,
        Self::Tears,
        Self::Occlusion,
        Self::Dust,
    ];

    /// The name, as [`Display`](fmt::Display) writes and [`FromStr`] reads it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blur => "blur",
            Self::Grain => "grain",
            Self::Fading => "fading",
            Self::Stains => "stains",
            Self::Craquelure => "craquelure",
            Self::Cracks => "cracks",
            Self::Folds => "folds",
            Self::Scratches => "scratches",
            Self::Losses => "losses",
            Self::Tears => "tears",
            Self::Occlusion => "occlusion",
            Self::Dust => "dust",
        }
    }

    /// True for a kind that changes the whole picture and is not in the mask.
    #[must_use]
    pub const fn is_global(self) -> bool {
        matches!(self, Self::Blur | Self::Grain | Self::Fading)
    }

    /// The position in [`ALL`](Self::ALL).
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for DamageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DamageKind {
    type Err = ImagingError;

    fn from_str(text: &str) -> Result<Self, ImagingError> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|kind| kind.name()).collect();
            ImagingError::argument("kind of damage", format!("one of {}", names.join(", ")), text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_indices_follow_the_order() {
        for (index, kind) in DamageKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.name().parse::<DamageKind>().unwrap(), kind);
            assert_eq!(kind.to_string(), kind.name());
            assert_eq!(kind.index(), index);
        }
        let error = "rust".parse::<DamageKind>().unwrap_err().to_string();
        assert!(error.contains("craquelure") && error.contains("rust"), "{error}");
    }
}
