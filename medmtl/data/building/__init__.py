"""From a folder of thousands of files to a manifest of the CT scans that lie in it.

Files (`walk`) -> what each is (`survey`) -> series and their folders (`places`) -> candidates
(`candidates`) -> whose they are (`patients`, `naming`) -> content hashes (`hashing`) -> the
manifest (`build`).
"""
