//! Units of measure. The Unified Code for Units of Measure (UCUM) 2.1, case sensitive.

/// Prefixes of metric units. UCUM, table 1.
const PREFIXES: &[&str] = &[
    "Y", "Z", "E", "P", "T", "G", "M", "k", "h", "da", "d", "c", "m", "u", "n", "p", "f", "a", "z", "y", "Ki", "Mi",
    "Gi", "Ti",
];

/// Units that take prefixes. UCUM, tables 2 to 24.
const METRIC: &str = "m s g rad K C cd mol sr Hz N Pa J W A V F Ohm S Wb Cel T H lm lx Bq Gy Sv l L ar t bar u eV pc g% gf Gal \
    dyn erg P Bi St Mx G Oe Gb sb Lmb ph Ci R RAD REM cal cal_IT cal_m cal_th tex B Np B[SPL] B[V] B[mV] B[uV] \
    B[10.nV] B[W] B[kW] st mho b bit By Bd Ky eq osm kat U [iU] [IU] m[H2O] m[Hg] [g] [c] [h] [k] [eps_0] [mu_0] [e] [m_e] \
    [m_p] [G] [ly] a_g a a_j a_t";

/// Units that take none.
const OTHER: &str = "10* 10^ [pi] % [ppth] [ppm] [ppb] [pptr] gon deg ' '' min h d wk mo mo_s mo_j mo_g AU [lbf_av] \
    [in_i] [ft_i] [yd_i] [mi_i] [fth_i] [nmi_i] [kn_i] [sin_i] [sft_i] [syd_i] [cin_i] [cft_i] [cyd_i] [bf_i] [cr_i] \
    [mil_i] [cml_i] [hd_i] [ft_us] [yd_us] [in_us] [rd_us] [ch_us] [lk_us] [fth_us] [mi_us] [acr_us] [srd_us] [smi_us] \
    [sct] [twp] [acr_br] [gal_us] [bbl_us] [qt_us] [pt_us] [gil_us] [foz_us] [fdr_us] [min_us] [crd_us] [bu_us] [gal_wi] \
    [pk_us] [dqt_us] [dpt_us] [tbs_us] [tsp_us] [cup_us] [gal_br] [bu_br] [qt_br] [pt_br] [foz_br] [gr] [lb_av] [oz_av] \
    [dr_av] [scwt_av] [lcwt_av] [ston_av] [lton_av] [stone_av] [pwt_tr] [oz_tr] [lb_tr] [degF] [degR] [degRe] [Cal] [Btu] \
    [Btu_IT] [HP] [den] [in_i'H2O] [in_i'Hg] [psi] [pH] [S] [CFU] [PFU] [FFU] [TCID_50] [CCID_50] [EID_50] [LD_50] [arb'U] [USP'U] [Lf] [mesh_i] [lne] [pnt] [pca] [drp] [foz_m] [cup_m] [tsp_m] [tbs_m] %[slope] [hnsf'U] [wood'U] [Ch] [kn_br] [mi_br] [ft_br] [in_br] bit_s [car_m] [car_Au] [smgy] att sph circ [diop]";

/// A unit as in kW.h, m2/s or {person}.
pub fn ucum(text: &str) -> Result<(), String> {
    let mut parser = Parser { rest: text, depth: 0 };
    let parsed = match text.strip_prefix('/') {
        Some(rest) => {
            parser.rest = rest;
            parser.term()
        }
        None => parser.term(),
    };
    match parsed {
        Ok(()) if parser.rest.is_empty() => Ok(()),
        Ok(()) => Err(format!("`{}` does not continue a UCUM unit", parser.rest)),
        Err(()) if parser.rest.is_empty() => Err("the UCUM unit is not complete".into()),
        Err(()) => {
            Err(format!("`{}` is no UCUM unit; what is counted stands in braces, as in {{person}}", parser.rest))
        }
    }
}

/// A parser of the grammar in UCUM, figure 1.
struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

/// Length of a unit with its prefix.
const UNIT_BYTES_MAX: usize = 24;

/// Nesting of parentheses.
const DEPTH_MAX: usize = 16;

impl Parser<'_> {
    fn take(&mut self, start: &str) -> bool {
        match self.rest.strip_prefix(start) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn term(&mut self) -> Result<(), ()> {
        loop {
            self.component()?;
            if !self.take(".") && !self.take("/") {
                return Ok(());
            }
        }
    }

    fn component(&mut self) -> Result<(), ()> {
        if self.take("(") {
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return Err(());
            }
            self.term()?;
            self.depth -= 1;
            return if self.take(")") { Ok(()) } else { Err(()) };
        }
        if self.rest.starts_with('{') {
            return self.annotation();
        }
        let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        let ten = self.rest.starts_with("10*") || self.rest.starts_with("10^");
        if digits > 0 && !ten {
            self.rest = &self.rest[digits..];
            return Ok(());
        }
        self.unit()?;
        if self.rest.starts_with('{') { self.annotation() } else { Ok(()) }
    }

    /// What is counted, in braces; it may be in any language.
    fn annotation(&mut self) -> Result<(), ()> {
        let end = self.rest.find('}').ok_or(())?;
        if self.rest[1..end].contains('{') || self.rest[1..end].chars().any(char::is_control) {
            return Err(());
        }
        self.rest = &self.rest[end + 1..];
        Ok(())
    }

    /// A unit with its prefix and exponent: the longest that ends before an operator, an exponent or the end.
    fn unit(&mut self) -> Result<(), ()> {
        let metric = |found: &str| {
            METRIC.split_whitespace().any(|name| {
                found.strip_suffix(name).is_some_and(|prefix| prefix.is_empty() || PREFIXES.contains(&prefix))
            })
        };
        let fits = |length: &usize| {
            let Some((found, after)) = self.rest.split_at_checked(*length) else { return false };
            let ends = after.starts_with(|c: char| ".)/{+-".contains(c) || c.is_ascii_digit()) || after.is_empty();
            ends && (metric(found) || OTHER.split_whitespace().any(|name| name == found))
        };
        let longest = (1..=self.rest.len().min(UNIT_BYTES_MAX)).rev().find(fits).ok_or(())?;
        self.rest = &self.rest[longest..];
        let signed = self.take("+") || self.take("-");
        let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        self.rest = &self.rest[digits..];
        if signed && digits == 0 { Err(()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_those_of_the_code() {
        for good in [
            "m",
            "km",
            "kW.h",
            "m2",
            "m2/s",
            "/min",
            "10*3",
            "10*3/uL",
            "%",
            "Cel",
            "mm[Hg]",
            "{person}",
            "{人}/a",
            "GiBy",
            "MBy/s",
            "kg/(m.s2)",
            "t{CO2eq}",
            "10*15.{FLOP}/s",
            "PBy",
            "[in_i]",
            "h-1",
            "m+2",
            "100",
            "1/d",
            "Gbit/s",
            "a",
            "mo",
            "u[IU]/mL",
            "kKy",
            "(m).(m).(m).(m).(m).(m).(m).(m).(m).(m).(m).(m).(m).(m).(m).(m).(m)",
            "[CFU]/mL",
        ] {
            assert_eq!(ucum(good), Ok(()), "{good}");
        }
        for bad in ["", "PFlops", "元", "kwh", "m^2", "m//s", "m/", "(m", "m)", "{x", "m-", "km km", "kmin", "m²", "%%"]
        {
            assert!(ucum(bad).is_err(), "{bad}");
        }
        assert!(ucum("PFlops").unwrap_err().contains("braces"));
        assert!(ucum(&"(".repeat(100_000)).is_err());
    }
}
