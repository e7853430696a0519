"""Southbound edge: everything that speaks to converters, stations and meters."""
